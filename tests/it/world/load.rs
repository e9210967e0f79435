//! `isotherm load`, which plays: started, ended, and held to what it tells.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use isotherm::cli::exit::Exit;
use serde_json::Value;

use super::{World, await_that, say};
use crate::moved::isotherm;

/// Running until it is ended, or has played all.
pub struct Load {
    name: String,
    child: Child,
    said: PathBuf,
}

impl Load {
    /// Asks the routers on these ports; `args` say what is played. What it says is in the file of its name.
    pub fn start(world: &World, name: &str, routers: [u16; 2], args: &[&str]) -> Self {
        let said = world.folder.path().join(format!("load-{name}.log"));
        let mut command = isotherm(world, &["load", "-o", "jsonl"]);
        command.args(args);
        for it in routers {
            command.args(["--router", &format!("127.0.0.1:{it}")]);
        }
        let log = std::fs::File::create(&said).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Self { name: name.to_owned(), child, said }
    }

    /// Waits until all rows are written.
    pub fn await_begun(&self) {
        await_that("the rows", || {
            std::fs::read_to_string(&self.said).unwrap().contains("rows in").then_some(())
        });
    }

    /// Tells whether it plays no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks it to end, which must be clean, as in [`Self::ended`].
    pub fn end(self) -> Value {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.ended()
    }

    /// Waits for its end, and returns what it tells: no read has failed, and no update, and no row that was
    /// read is gone.
    pub fn ended(self) -> Value {
        let output = self.child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let said = std::fs::read_to_string(&self.said).unwrap();
        say(&format!("{}: {said}{told}", self.name));
        assert_eq!(output.status.code(), Some(Exit::Done as i32), "{}", self.said.display());
        let told: Value = serde_json::from_str(&told).unwrap();
        let [failed, updates, gone] = ["failed", "updates_failed", "vanished"].map(|it| &told[it]);
        assert_eq!([failed, updates, gone], [0; 3].map(Value::from).each_ref());
        assert!(told["answered"].as_u64() > Some(0), "{told}");
        told
    }
}

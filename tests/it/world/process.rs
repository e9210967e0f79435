//! A process of a test: asked, killed, waited for.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread;

use super::{World, await_that, say};

/// A process, running.
pub struct Process {
    pub(super) child: Child,
    pub(super) log: PathBuf,
    pub(super) port: u16,
}

impl Process {
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Another of its name may be started then.
    pub fn kill_now(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until a tick is committed that is not before this one.
    pub fn await_tick(&mut self, world: &World, tick: u64) -> u64 {
        await_that(&format!("tick {tick}"), || {
            assert!(!self.has_ended(), "the planner has ended before tick {tick}");
            world.last_tick().filter(|it| tick <= *it)
        })
    }

    /// Waits for its end.
    pub fn ended(mut self) -> ExitStatus {
        self.await_end()
    }

    /// The same; another of its name may be started then.
    pub fn await_end(&mut self) -> ExitStatus {
        let what = format!("the end of a process: {}", self.log.display());
        await_that(&what, || self.child.try_wait().unwrap())
    }

    pub fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has it so often.
    pub fn await_log(&self, text: &str, n: usize) {
        await_that(&format!("{text} in the log"), || {
            (n <= self.log().matches(text).count()).then_some(())
        });
    }

    /// Asks as curl does, and tells status and body.
    pub fn ask(&self, path: &str) -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.into()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            say(&format!("{}\n{}", self.log.display(), self.log()));
        }
    }
}

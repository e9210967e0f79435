//! A process of a test: asked, killed, waited for.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use super::{World, await_that, say};

/// Who has not answered by then does not.
const ANSWER: Duration = Duration::from_secs(30);

/// So many ticks are waited for, at most.
const TICKS_MAX: u64 = 5_000;

/// So many lines of a log tell what came last.
const LAST: usize = 10;

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
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.into()))
    }
}

impl Process {
    /// Waits until `/readyz?verbose` has this status and line. A planner that is behind is waited for as long as it
    /// catches up: on a busy machine that takes what it takes.
    pub fn await_told(&self, status: u16, line: &str) {
        let mut tick = None;
        for _ in 0..TICKS_MAX {
            let is_told = await_that(line, || {
                let (now, body) = self.ask("/readyz?verbose")?;
                if now == status && body.contains(line) {
                    return Some(true);
                }
                let ticks = body.lines().find(|it| it.contains("] ticks: ")).map(str::to_owned);
                (ticks != tick).then(|| tick = ticks).map(|()| false)
            });
            if is_told {
                return;
            }
        }
        panic!("{TICKS_MAX} ticks, and not once {status} with {line}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ready = if thread::panicking() { self.ask("/readyz?verbose") } else { None };
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            let (path, log) = (self.log.display(), self.log());
            say(&format!("{path}\n{log}"));
            // And once more with the failure, where it is seen at once.
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LAST)..].join("\n");
            eprintln!("{path}, its end:\n{end}\nand /readyz: {ready:?}");
        }
    }
}

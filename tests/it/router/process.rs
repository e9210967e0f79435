//! The router as a process: is ready when it has a map, and ends in order.

use std::fs::File;
use std::process::{Child, Command};

use super::*;
use crate::world::{World, say};

#[test]
fn router_that_is_asked_to_end_answers_what_it_was_asked_and_logs_it() {
    let Some(world) = World::create("router-process", &[]) else { return };
    let planner = Planner::new(&world.connection);
    let a = Standin::start("a");
    a.serve(1, &[("", "", "a", 1, Serves::Reads)], &["fig"]);
    let mut router = Process::start(&world);
    let ready = || router.ask("GET /readyz?verbose");
    await_that("it says what it waits for", || {
        ready()?.body.contains("[-] assignment: there is none yet").then_some(())
    });
    planner.reports(&[&a]);
    planner.assign(&[range("", "", "a", 1)]);
    let told = await_that("it is ready", || ready().filter(|it| it.status == 200));
    assert!(told.body.contains("[+] assignment: generation 1, 1 ranges"), "{}", told.body);
    assert_eq!(super::told(&router.ask("GET /v1/keys/fig").unwrap()), "200 fig of a");
    a.is(Mood::Hangs);
    let address = router.address;
    let asked = thread::spawn(move || ask(address, "GET /v1/keys/fig", ""));
    await_that("the worker is asked", || (a.requests().len() == 2).then_some(()));
    let id = router.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    await_that("it takes nothing more", || TcpStream::connect(address).err());
    a.is(Mood::Serves);
    assert_eq!(super::told(&asked.join().unwrap()), "200 fig of a");
    let ended = await_that("its end", || router.child.try_wait().unwrap());
    assert!(ended.success());
    assert_eq!(logged(&world.connection).len(), 2);
}

struct Process {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Process {
    fn start(world: &World) -> Self {
        let path = |extension: &str| world.folder.path().join(format!("router.{extension}"));
        let Connection { bootstrap_servers, prefix, .. } = &world.connection;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let configuration =
            format!("[kafka]\nbootstrap_servers = '{bootstrap_servers}'\nprefix = '{prefix}'\n");
        std::fs::write(path("toml"), configuration).unwrap();
        let log = File::create(path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(["router", "--listen", &address.to_string(), "--config"]).arg(path("toml"));
        command.current_dir(&world.folder).env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
        Self { child: command.stderr(log).spawn().unwrap(), address, log: path("log") }
    }

    /// Asks, if it listens already.
    fn ask(&self, request: &str) -> Option<Heard> {
        drop(TcpStream::connect(self.address).ok()?);
        Some(ask(self.address, request, ""))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            say(&std::fs::read_to_string(&self.log).unwrap());
        }
    }
}

#[test]
fn router_that_is_asked_to_end_does_not_wait_for_clients_that_keep_their_connections() {
    let Some(mut world) = World::create("router-kept", &[]) else { return };
    // Longer than this test waits for an end.
    world.more = "[router]\ndeadline = '10m'\nstop_within = '20m'";
    let planner = Planner::new(&world.connection);
    let a = Standin::start("a");
    a.serve(1, &[("", "", "a", 1, Serves::Reads)], &["fig"]);
    planner.reports(&[&a]);
    planner.assign(&[range("", "", "a", 1)]);
    let router = world.start("router", &["router"], None);
    await_that("it is ready", || (router.ask("/readyz")?.0 == 200).then_some(()));
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", router.port())).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let _silent = connect(b"");
    let _half = connect(b"GET /v1/keys/fig HTTP/1.1\r\n");
    let mut rests = connect(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(rests.read(&mut [0; 1024]).unwrap() > 0);
    // Settings of none, and never another word: no answer to what the router sends.
    let mut http_2 = connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(frame(&mut http_2), Some(SETTINGS));
    router.signal("-TERM");
    await_that("a word that it goes", || (frame(&mut http_2)? == GOAWAY).then_some(()));
    assert!(router.ended().success());
}

const SETTINGS: u8 = 4;

const GOAWAY: u8 = 7;

/// Reads a frame of HTTP/2, and returns its type.
fn frame(stream: &mut TcpStream) -> Option<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    stream.read_exact(&mut vec![0; length as usize]).ok()?;
    Some(head[3])
}

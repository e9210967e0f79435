//! Names its brokers again to a client that knows none any more.
//!
//! ```text
//!  cluster: "there is no broker"      its only one was not heard by the controller for a while
//!  client:  forgets them all, and asks nobody ever again
//!           └── here: bootstrap.servers once more ──> one is reached ──> goes on where it was
//! ```
//!
//! librdkafka (2.12) takes a broker out that an answer about the cluster does not have, also the last one; it
//! begins anew with `bootstrap.servers` in that moment, but finds the one there that is about to go.

use std::ffi::CString;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings::{rd_kafka_brokers_add, rd_kafka_brokers_learned_ids, rd_kafka_mem_free};
use rdkafka::client::Client;
use tracing::warn;

/// A client is looked at this often. An own list of the client grows by what is added.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The brokers of one client.
pub(super) struct Brokers {
    servers: CString,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    /// One that never had any is still to reach the first.
    had_some: bool,
}

impl Brokers {
    pub(super) fn new(servers: &str) -> Self {
        // What comes from a file or a flag may hold anything; a client of it was not made.
        let servers = CString::new(servers).unwrap_or_default();
        Self { servers, looked: Mutex::default() }
    }

    /// Looks, now and then, whether the client knows a broker; else names those to it that it began with.
    pub(super) fn look<C: ClientContext>(&self, client: &Client<C>) {
        let mut looked = self.looked.lock().expect("nobody panics with it in hand");
        if looked.at.is_some_and(|it| it.elapsed() < LOOK_EVERY) {
            return;
        }
        looked.at = Some(Instant::now());
        let client = client.native_ptr();
        let mut known = 0;
        // SAFETY: the client lives, and the list is this function's to free.
        unsafe {
            let ids = rd_kafka_brokers_learned_ids(client, &raw mut known);
            if !ids.is_null() {
                rd_kafka_mem_free(client, ids.cast());
            }
        }
        if 0 < known {
            looked.had_some = true;
        } else if looked.had_some {
            warn!("the cluster has told that it has no brokers; they are looked for again");
            // SAFETY: the client lives, and the text ends with a zero and is copied.
            unsafe { rd_kafka_brokers_add(client, self.servers.as_ptr()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use super::super::Connection;
    use super::super::ask::Asker;
    use super::*;

    /// A cluster of one broker, of which it tells or not.
    struct Cluster {
        address: String,
        tells: Arc<AtomicBool>,
        /// How often it has not.
        silent: Arc<AtomicU64>,
    }

    impl Cluster {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let tells = Arc::new(AtomicBool::new(true));
            let silent = Arc::new(AtomicU64::new(0));
            let (told, counted) = (tells.clone(), silent.clone());
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (told, counted) = (told.clone(), counted.clone());
                    thread::spawn(move || answer(stream, port, &told, &counted));
                }
            });
            Self { address: format!("127.0.0.1:{port}"), tells, silent }
        }
    }

    /// Answers ApiVersions, version 3, and Metadata, version 1, until the client goes.
    fn answer(
        mut stream: TcpStream,
        port: u16,
        tells: &AtomicBool,
        silent: &AtomicU64,
    ) -> Option<()> {
        loop {
            let mut size = [0; 4];
            stream.read_exact(&mut size).ok()?;
            let mut request = vec![0; u32::from_be_bytes(size) as usize];
            stream.read_exact(&mut request).ok()?;
            let (key, correlation) = (&request[..2], &request[4..8]);
            let body = match u16::from_be_bytes([key[0], key[1]]) {
                3 => {
                    let tells = tells.load(Ordering::Acquire);
                    silent.fetch_add(u64::from(!tells), Ordering::AcqRel);
                    metadata(port, tells)
                }
                // No error; two apis, each from one version to another; no delay.
                18 => {
                    let apis = [[0, 3, 0, 0, 0, 1, 0], [0, 18, 0, 0, 0, 3, 0]].concat();
                    [&[0, 0, 3][..], &apis, &[0; 5]].concat()
                }
                other => panic!("api {other} was not offered"),
            };
            let size = (4 + body.len()) as u32;
            let whole = [&size.to_be_bytes()[..], correlation, &body].concat();
            stream.write_all(&whole).ok()?;
        }
    }

    fn metadata(port: u16, tells: bool) -> Vec<u8> {
        let node = 1_u32.to_be_bytes();
        let port = u32::from(port).to_be_bytes();
        let name = b"127.0.0.1";
        // Its rack is not known.
        let broker = [&node[..], &[0, name.len() as u8], name, &port, &[255, 255]].concat();
        let brokers = u32::from(tells).to_be_bytes();
        let broker = if tells { &broker[..] } else { &[] };
        let name = b"isotherm";
        // It is the controller; the topic that is asked for is not known, and has no partitions.
        let topic = [&[0, 3, 0, name.len() as u8][..], name, &[0; 5]].concat();
        [&brokers[..], broker, &node, &[0, 0, 0, 1], &topic].concat()
    }

    #[test]
    fn client_whose_cluster_had_no_brokers_for_a_moment_finds_them_again() {
        let cluster = Cluster::start();
        let servers = cluster.address.clone();
        let connection = Connection { bootstrap_servers: servers, ..Connection::default() };
        let asker = Asker::new(&connection, "asking").unwrap();
        asker.reach().unwrap();
        cluster.tells.store(false, Ordering::Release);
        // Until it has heard of that, and has forgotten the one.
        let deadline = Instant::now() + Duration::from_secs(60);
        while cluster.silent.load(Ordering::Acquire) == 0 {
            assert!(Instant::now() < deadline, "it does not ask");
            _ = asker.reach();
        }
        cluster.tells.store(true, Ordering::Release);
        while asker.reach().is_err() {
            assert!(Instant::now() < deadline, "it does not find the broker again");
        }
    }
}

//! A client of routers: it repeats what is not answered, and holds each router to what it has said before.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isotherm::table::load::{Changes, Shape};
use schemas::Key;
use serde_json::{Value, json};

/// A read that has no answer by then has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// So long one router may take, before another is asked.
const TRY: Duration = Duration::from_secs(10);

/// Between two batches, so that others get on with their work.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads until it is ended.
pub struct Reader {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answered: u64,
    /// So many reads were asked again, of another router.
    pub repeated: u64,
}

/// The newest version of an entry that was seen, and whether it was missing since.
#[derive(Clone, Copy, Default)]
struct Seen {
    offset: u64,
    is_missing: bool,
}

struct Client {
    /// The first one is asked first.
    routers: Vec<u16>,
    /// By router.
    seen: BTreeMap<u16, BTreeMap<(Key, String), Seen>>,
    counts: Counts,
}

impl Reader {
    pub fn start(routers: Vec<u16>, shape: Shape) -> Self {
        let keys: Vec<_> = Changes::new(shape).take(10_000).filter_map(|it| it.1.after).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            let mut client = Client { routers, seen: BTreeMap::new(), counts: Counts::default() };
            for batch in keys.chunks(50).cycle() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                client.read(batch);
                thread::park_timeout(PAUSE);
            }
            client.counts
        });
        Self { is_over, thread }
    }

    pub fn end(self) -> Counts {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

impl Client {
    fn read(&mut self, batch: &[Key]) {
        let deadline = Instant::now() + DEADLINE;
        let mut open: Vec<_> = batch.iter().collect();
        for router in self.routers.clone().into_iter().cycle() {
            let left = deadline.saturating_duration_since(Instant::now());
            let answers = ask(router, &open, left.min(TRY)).unwrap_or_default();
            let seen = self.seen.entry(router).or_default();
            let mut again = Vec::new();
            for (i, key) in open.into_iter().enumerate() {
                match answers.get(i).and_then(|it| it.get("found")) {
                    Some(found) => check_not_back(seen, key, found),
                    None => again.push(key),
                }
            }
            if again.is_empty() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "reads of {again:?} have failed; router {router} said {answers:?}"
            );
            self.counts.repeated += again.len() as u64;
            open = again;
            // One that refuses at once is not asked at once.
            thread::park_timeout(PAUSE);
        }
        self.counts.answered += batch.len() as u64;
    }
}

fn check_not_back(seen: &mut BTreeMap<(Key, String), Seen>, key: &Key, found: &Value) {
    let entries: BTreeMap<_, _> = found["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["primary_key"].as_str().unwrap().to_owned(), it["offset"].as_u64().unwrap()))
        .collect();
    for ((of, primary), it) in seen.range_mut((key.clone(), String::new())..) {
        if of != key {
            break;
        }
        it.is_missing |= !entries.contains_key(primary);
    }
    for (primary, offset) in entries {
        let it = seen.entry((key.clone(), primary)).or_default();
        let is_newer = if it.is_missing { it.offset < offset } else { it.offset <= offset };
        assert!(
            is_newer,
            "{key} went back to {offset} from {}, missing {}",
            it.offset, it.is_missing
        );
        *it = Seen { offset, is_missing: false };
    }
}

/// Returns what a router answers in time, if it does.
fn ask(port: u16, keys: &[&Key], within: Duration) -> Option<Vec<Value>> {
    let key = |it: &&Key| json!({ "what": { "key": String::from_utf8(it.0.clone()).unwrap() } });
    let reads: Vec<_> = keys.iter().map(key).collect();
    let body = json!({ "reads": reads, "deadline_ms": within.as_millis() as u64 }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // It says itself what is late.
    stream.set_read_timeout(Some(within + Duration::from_secs(1))).unwrap();
    write!(
        stream,
        "POST /v1/reads HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if head.split(' ').nth(1)? != "200" {
        return None;
    }
    let body: Value = serde_json::from_str(body.trim()).ok()?;
    Some(body["answers"].as_array()?.clone())
}

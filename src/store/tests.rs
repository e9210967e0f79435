//! Holds the store in memory and the one on disk equal, over random steps.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::{Inbox, NodeId};

use super::fjall::{FjallStore, Identity, Options};
use super::memory::MemoryStore;
use super::*;

struct Twins {
    memory: MemoryStore,
    disk: FjallStore,
    options: Options,
    _dir: tempfile::TempDir,
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn options(dir: &std::path::Path) -> Options {
    Options { dir: dir.join("store"), memory_bytes_max: 32 << 20, reserve_bytes: 0 }
}

impl Twins {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let disk = FjallStore::open(&options, &node("n1")).unwrap();
        Self { memory: MemoryStore::default(), disk, options, _dir: dir }
    }

    fn step(&mut self, writes: Vec<Write>, states: Vec<State>) -> Vec<Outcome> {
        let outcomes = self.memory.stage(writes.clone()).unwrap();
        assert_eq!(outcomes, self.disk.stage(writes.clone()).unwrap(), "{writes:#?}");
        self.memory.commit(states.clone()).unwrap();
        self.disk.commit(states).unwrap();
        outcomes
    }

    /// Opens the one on disk again, and loses nothing that was committed.
    fn reopened(self) -> Self {
        let Self { memory, disk, options, _dir } = self;
        drop(disk);
        let disk = FjallStore::open(&options, &node("n1")).unwrap();
        Self { memory, disk, options, _dir }
    }

    fn assert_equal(&self, span: &KeySpan, limit: Limit) {
        assert_eq!(self.memory.states().unwrap(), self.disk.states().unwrap());
        let pages = |at: &dyn Fn(Option<&EntryKey>) -> Page| {
            let mut pages = vec![at(None)];
            while let Some(after) = pages.last().and_then(|it| it.next.clone()) {
                pages.push(at(Some(&after)));
            }
            pages
        };
        let (memory, disk) = (self.memory.snapshot(), self.disk.snapshot());
        let memory = pages(&|after| memory.page(span, after, limit).unwrap());
        assert_eq!(memory, pages(&|after| disk.page(span, after, limit).unwrap()));
    }
}

/// Draws writes over a few keys, so that they meet.
struct Draw(Pcg64);

impl Draw {
    fn key(&mut self) -> Key {
        let bytes = [0, b'a', b'b', 0xff];
        let length = self.0.random_range(0..3);
        Key((0..length).map(|_| bytes[self.0.random_range(0..bytes.len())]).collect())
    }

    fn entry(&mut self) -> Entry {
        let primary_key = Key(vec![self.0.random_range(0..4)]);
        self.entry_of(primary_key)
    }

    fn entry_of(&mut self, primary_key: Key) -> Entry {
        let payload = self.0.random_bool(0.6).then(|| vec![7; self.0.random_range(0..40)]);
        // As the primary key does, so does the partition stay.
        let partition = u32::from(primary_key.0[0] % 2);
        let offset = self.0.random_range(0..60);
        Entry { index_key: self.key(), primary_key, partition, offset, payload }
    }

    fn span(&mut self) -> KeySpan {
        KeySpan { start: self.key(), end: self.key() }
    }

    fn floors(&mut self) -> Vec<Floor> {
        (0..2).map(|partition| Floor { partition, offset: self.0.random_range(0..60) }).collect()
    }

    fn entry_key(&mut self) -> EntryKey {
        EntryKey::of(&self.entry())
    }

    fn cursor(&mut self) -> Option<EntryKey> {
        self.0.random_bool(0.5).then(|| self.entry_key())
    }

    fn write(&mut self) -> Write {
        let max = self.0.random_range(1..6);
        let scan = Scan(Generation(self.0.random_range(1..3)));
        match self.0.random_range(0..18) {
            0..6 => Write::Put(self.entry()),
            6..8 => Write::Aside(self.entry()),
            8 => Write::Forget(self.entry_key()),
            9 | 10 => {
                let after = self.cursor();
                Write::PutAside { span: self.span(), below: self.floors(), after, max }
            }
            11 => {
                let after = self.cursor();
                Write::Erase { span: self.span(), aside: Aside::Stays, after, max }
            }
            12 => {
                let after = self.cursor();
                Write::Erase { span: self.span(), aside: Aside::Goes, after, max }
            }
            13 | 14 => {
                let after = self.cursor();
                Write::Collect { span: self.span(), below: self.floors(), after, max }
            }
            15 | 16 => {
                let primary_key = Key(vec![self.0.random_range(0..4)]);
                let number = self.0.random_range(0..3);
                let entries = (0..number).map(|_| self.entry_of(primary_key.clone())).collect();
                Write::Row { scan, primary_key, entries }
            }
            _ => {
                let after = self.0.random_bool(0.5).then(|| Key(vec![self.0.random_range(0..4)]));
                Write::EndScan { scan, after, max }
            }
        }
    }

    fn states(&mut self) -> Vec<State> {
        let number = self.0.random_range(0..3);
        let state =
            |_| (vec![self.0.random_range(0..5)], self.0.random_bool(0.7).then(|| vec![1, 2]));
        (0..number).map(state).collect()
    }
}

#[test]
fn store_on_disk_and_its_twin_in_memory_are_equal_after_every_step() {
    for seed in 0..4 {
        // Shown when the test fails.
        println!("seed {seed}");
        let mut draw = Draw(Pcg64::seed_from_u64(seed));
        let mut twins = Twins::new();
        for step in 0..300 {
            let writes = (0..draw.0.random_range(0..6)).map(|_| draw.write()).collect();
            let states = draw.states();
            twins.step(writes, states);
            let limit =
                Limit { entries: draw.0.random_range(0..5), bytes: draw.0.random_range(0..90) };
            twins.assert_equal(&draw.span(), limit);
            if step % 100 == 99 {
                twins = twins.reopened();
            }
            if step % 20 == 19 {
                twins.assert_equal(&KeySpan::all(), limit);
            }
        }
    }
}

fn entry(index: &str, primary: &str, offset: u64, payload: Option<&str>) -> Entry {
    Entry {
        index_key: Key(index.into()),
        primary_key: Key(primary.into()),
        partition: 0,
        offset,
        payload: payload.map(|it| it.as_bytes().to_vec()),
    }
}

fn all(store: &impl Store) -> Vec<Entry> {
    let limit = Limit { entries: usize::MAX, bytes: usize::MAX };
    store.snapshot().page(&KeySpan::all(), None, limit).unwrap().entries
}

#[test]
fn what_is_staged_and_not_committed_is_not_there() {
    let mut twins = Twins::new();
    let put = vec![Write::Put(entry("a", "1", 1, Some("x")))];
    twins.disk.stage(put.clone()).unwrap();
    twins.memory.stage(put.clone()).unwrap();
    assert!(all(&twins.disk).is_empty() && all(&twins.memory).is_empty());
    // Staging again drops it.
    twins.step(vec![Write::Put(entry("b", "1", 1, None))], vec![]);
    assert_eq!(all(&twins.disk), [entry("b", "1", 1, None)]);
    assert_eq!(all(&twins.disk), all(&twins.memory));
}

#[test]
fn what_is_erased_batch_by_batch_is_gone_and_nothing_else_is() {
    let names = |it: &[Entry]| it.iter().map(|it| it.index_key.to_string()).collect::<String>();
    let put = |it: char| entry(&it.to_string(), "1", 1, Some("x"));
    // More is aside than goes in a batch, or less; before what is stored, among it, and behind it.
    let tables = [("", ""), ("dm", "cdefgh"), ("defghij", "m"), ("fhjl", "abcdefghijklmnop")];
    let tables = tables.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]);
    for ((stored, aside), max) in tables.flat_map(|it| (1..5).map(move |max| (it, max))) {
        let mut twins = Twins::new();
        let writes = stored.chars().map(|it| Write::Put(put(it)));
        let writes = writes.chain(aside.chars().map(|it| Write::Aside(put(it))));
        twins.step(writes.collect(), vec![]);
        let span = KeySpan { start: Key("d".into()), end: Key("n".into()) };
        let outside = |it: &str| it.replace(|it| ('d'..'n').contains(&it), "");
        let mut after = None;
        loop {
            let before = all(&twins.disk).len();
            let (span, before_this) = (span.clone(), after.clone());
            let erase = Write::Erase { span, aside: Aside::Goes, after, max };
            let outcomes = twins.step(vec![erase], vec![]);
            assert!(before - all(&twins.disk).len() <= max);
            let [Outcome::Erased { after: next }] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert!(next.is_none() || before_this < *next, "a cursor moves");
            after = next.clone();
            if after.is_none() {
                break;
            }
        }
        assert_eq!(names(&all(&twins.disk)), outside(stored), "{aside} is aside, {max} at a time");
        let drain = Write::PutAside { span: KeySpan::all(), below: vec![], after, max: 99 };
        twins.step(
            vec![Write::Erase { span: KeySpan::all(), aside: Aside::Stays, after: None, max: 99 }],
            vec![],
        );
        twins.step(vec![drain], vec![]);
        assert_eq!(names(&all(&twins.disk)), outside(aside), "{stored} is stored, {max} at a time");
    }
}

#[test]
fn snapshot_does_not_change_any_more() {
    let mut twins = Twins::new();
    twins.step(vec![Write::Put(entry("a", "1", 1, Some("x")))], vec![]);
    let (disk, memory) = (twins.disk.snapshot(), twins.memory.snapshot());
    twins.step(
        vec![Write::Erase { span: KeySpan::all(), aside: Aside::Goes, after: None, max: 9 }],
        vec![],
    );
    let limit = Limit { entries: 9, bytes: 99 };
    let then = disk.page(&KeySpan::all(), None, limit).unwrap();
    assert_eq!(then.entries, [entry("a", "1", 1, Some("x"))]);
    assert_eq!(then, memory.page(&KeySpan::all(), None, limit).unwrap());
    assert!(all(&twins.disk).is_empty());
}

#[test]
fn crash_loses_commits_from_the_end_and_none_that_was_synced() {
    let state = |it: u8| vec![(b"position".to_vec(), Some(vec![it]))];
    let mut store = MemoryStore::default();
    store.commit(state(1)).unwrap();
    store.sync().unwrap();
    store.commit(state(2)).unwrap();
    store.stage(vec![Write::Put(entry("a", "1", 1, None))]).unwrap();
    store.commit(state(3)).unwrap();
    assert_eq!(store.unsynced(), 2);
    for (keep, position, entries) in [(2, 3, 1), (1, 2, 0), (0, 1, 0)] {
        let mut store = store.clone();
        store.crash(keep);
        assert_eq!(store.states().unwrap(), States::from([(b"position".to_vec(), vec![position])]));
        assert_eq!(all(&store).len(), entries);
        store.crash(0);
        assert_eq!(
            store.states().unwrap()[&b"position"[..]],
            [position],
            "what is left is on disk"
        );
    }
}

#[test]
fn scan_of_the_table_keeps_no_entry_of_a_row_that_moved_on() {
    let mut twins = Twins::new();
    let scan = Scan(Generation(3));
    let row = |entries| Write::Row { scan, primary_key: Key(b"1".to_vec()), entries };
    twins.step(vec![row(vec![entry("a", "1", 1, Some("x"))])], vec![]);
    // That it left a for b was compacted away: the table says only that it left b for c.
    let outcomes = twins.memory.clone().stage(vec![row(vec![entry("c", "1", 5, Some("z"))])]);
    let went = vec![entry("a", "1", 1, Some("x"))];
    let changed = vec![(entry("c", "1", 5, Some("z")), None)];
    assert_eq!(outcomes.unwrap(), [Outcome::Read { went, changed }]);
    twins.step(vec![row(vec![entry("c", "1", 5, Some("z"))])], vec![]);
    assert_eq!(all(&twins.disk), [entry("c", "1", 5, Some("z"))]);
    twins.step(vec![Write::EndScan { scan, after: None, max: 9 }, row(vec![])], vec![]);
    assert_eq!(all(&twins.disk).len(), 1, "the end of a scan leaves its entries");
}

#[test]
fn store_is_of_one_node_and_of_one_process() {
    let twins = Twins::new();
    let Twins { mut disk, options, .. } = twins;
    assert_eq!(disk.identity(), None);
    let identity = Identity {
        node: node("n1"),
        store_id: "s-1".into(),
        inbox: Inbox(3),
        table_partitions: Some(8),
    };
    disk.begin(identity.clone(), vec![(b"position".to_vec(), Some(vec![9]))]).unwrap();
    let told = |node: &str| match FjallStore::open(&options, &NodeId(node.into())) {
        Ok(store) => format!("{:?}", store.identity()),
        Err(err) => err.to_string().replace(&options.dir.display().to_string(), "DIR"),
    };
    assert_eq!(told("n1"), "the store at DIR is in use by another process");
    drop(disk);
    assert_eq!(
        told("n2"),
        "the store at DIR is of node n1, not of n2: give each node a folder of its own"
    );
    assert_eq!(told("n1"), format!("{:?}", Some(identity)));
    let disk = FjallStore::open(&options, &node("n1")).unwrap();
    assert_eq!(disk.states().unwrap(), States::from([(b"position".to_vec(), vec![9])]));
}

#[test]
fn disk_without_room_takes_no_write_and_answers_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let mut store = FjallStore::open(&options, &node("n1")).unwrap();
    store.stage(vec![Write::Put(entry("a", "1", 1, Some("x")))]).unwrap();
    store.commit(vec![]).unwrap();
    drop(store);
    options.reserve_bytes = u64::MAX;
    let mut store = FjallStore::open(&options, &node("n1")).unwrap();
    store.stage(vec![Write::Put(entry("b", "1", 1, Some("y")))]).unwrap();
    let error = store.commit(vec![(b"position".to_vec(), Some(vec![9]))]).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert_eq!(all(&store), [entry("a", "1", 1, Some("x"))]);
    assert_eq!(store.states().unwrap(), States::new());
}

#[test]
fn batch_of_a_cursor_is_smaller_where_payloads_are_large() {
    let mut twins = Twins::new();
    let large = |row: u8| Entry {
        index_key: Key(vec![row]),
        primary_key: Key(vec![row]),
        partition: 0,
        offset: row.into(),
        payload: Some(vec![row; BATCH_BYTES_MAX / 2 - 1]),
    };
    twins.step((0..5).map(|row| Write::Aside(large(row))).collect(), vec![]);
    let put = |after| Write::PutAside { span: KeySpan::all(), below: vec![], after, max: 10 };
    let mut changed = Vec::new();
    let mut after = None;
    loop {
        let outcome = twins.memory.stage(vec![put(after.clone())]).unwrap().remove(0);
        twins.step(vec![put(after)], vec![]);
        let Outcome::Drained { changed: some, after: next } = outcome else {
            panic!("{outcome:?}")
        };
        changed.push(some.len());
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(changed, [2, 2, 1]);
    twins.assert_equal(&KeySpan::all(), Limit { entries: 100, bytes: usize::MAX });
}

//! Kills channels while rows change and the map does, and looks for what is missing or told too early.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use isotherm::channel::committed::Committed;
use isotherm::kafka::group::{Event, Group};

use super::*;
use crate::world::{World as Topics, await_that, now_ms, say};

const KILLS: u64 = 6;

const ROWS: u64 = 150;

const PARTITIONS: u64 = 8;

#[test]
fn channels_that_are_killed_leave_no_row_out_and_tell_of_none_too_early() {
    let Some(topics) = Topics::create("channel-killed", &[]) else { return };
    let seed = now_ms();
    say(&format!("channel-killed: seed {seed}"));
    let mut random = seed;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    let app = App::new(&topics.connection);
    let mut world = World::follow(&topics.connection);
    let mut table = Table::default();
    let mut channels = [Process::start(&topics, "x"), Process::start(&topics, "y")];
    for kill in 0..KILLS {
        let generation = kill + 1;
        let owner = |it: u64| ["a", "b", "c"][(it % 3) as usize];
        let first = match kill {
            0 => range("", "m", owner(1), generation),
            _ => moved("", "m", [owner(kill), owner(kill + 1)], generation),
        };
        app.assign(&[first, range("m", "", owner(kill + 2), generation)]);
        for _ in 0..ROWS {
            let (primary, key) = (below(40), below(26));
            let key = (below(5) > 0).then(|| char::from(b'a' + key as u8).to_string());
            table.change(&app, primary, key);
        }
        app.0.flush().unwrap();
        // In the middle of that, as far as its first watermark may be.
        world.until_rows(table.written * below(4) / 4);
        let one = below(2) as usize;
        let name = channels[one].name;
        channels[one].kill();
        // Half of the time, the other has to take its place first.
        let alone = table.ends();
        if below(2) == 0 {
            let told = [owner(kill + 1), owner(kill + 2)];
            world.until_told(&told, generation, &alone);
        }
        channels[one] = Process::start(&topics, name);
    }
    // The last source of all is told, though it owns nothing any more.
    world.until_told(&["a", "b", "c"], KILLS, &table.ends());
    channels.iter().for_each(Process::await_partitions);
    // And in order: all that was sent is committed.
    for channel in &mut channels {
        assert!(channel.asked_to_end().success(), "{}", channel.log());
    }
    world.read_all();
    assert_eq!(world.latest(), table.entries);
    world.check_watermarks();
    let mut heir = Group::join(&topics.connection, "table", "channel", None).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let claimed = loop {
        assert!(Instant::now() < deadline, "nothing is given to the only member");
        match heir.poll(Duration::from_millis(100)).unwrap() {
            Some(Event::Assigned(claimed)) if !claimed.is_empty() => break claimed,
            Some(_) | None => (),
        }
    };
    let from: Vec<_> = claimed.iter().map(|it| it.from.0).collect();
    assert_eq!(from, table.ends());
    let committed = claimed.iter().filter_map(|it| Committed::read(it.metadata.as_deref()?));
    let committed: Vec<_> = committed.collect();
    assert_eq!(committed.len() as u64, PARTITIONS);
    assert!(committed.iter().all(|it| it.generation.0 == KILLS), "{committed:?}");
    assert!(committed.iter().all(|it| it.caught_up.is_some()), "{committed:?}");
    say(&format!("channel-killed: {} rows, {} updates", table.written, world.updates.len()));
}

/// What the table says.
#[derive(Default)]
struct Table {
    written: u64,
    rows: BTreeMap<u64, String>,
    counts: [u64; PARTITIONS as usize],
    /// By index key and primary key: the offset of the last word, and whether it is there.
    entries: BTreeMap<(String, String), (u64, bool)>,
}

impl Table {
    fn change(&mut self, app: &App, primary: u64, after: Option<String>) {
        let before = match &after {
            Some(key) => self.rows.insert(primary, key.clone()),
            None => self.rows.remove(&primary),
        };
        let partition = primary % PARTITIONS;
        let offset = self.counts[partition as usize];
        let name = format!("p{primary}");
        let mut output = Output::new("table", name.clone().into(), vec![]);
        output.value = Some(encode(&change((before.as_deref(), after.as_deref()))));
        output.partition = Some(partition as u32);
        app.0.send(&output).unwrap();
        for (key, is_there) in [(before, false), (after, true)] {
            if let Some(key) = key {
                self.entries.insert((key, name.clone()), (offset, is_there));
            }
        }
        self.counts[partition as usize] += 1;
        self.written += 1;
    }

    fn ends(&self) -> Vec<u64> {
        self.counts.to_vec()
    }
}

impl World {
    /// Waits until so many changes of rows were sent.
    fn until_rows(&mut self, n: u64) {
        self.until(&format!("{n} rows are sent"), |it| {
            let entries = it.updates.iter().filter_map(|it| it.1.entry.as_ref());
            let rows: BTreeSet<_> =
                entries.map(|it| (it.entry.partition, it.entry.offset)).collect();
            n <= rows.len() as u64
        });
    }

    /// Reads all that there is.
    fn read_all(&mut self) {
        let ends = self.follower.ends().unwrap().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.follower.has_reached(&ends).unwrap() {
            assert!(Instant::now() < deadline, "read to {:?}", self.follower.positions());
            if let Some(record) = self.follower.poll(Duration::from_millis(20)).unwrap() {
                self.take(&record);
            }
        }
    }

    /// Returns the last word of each entry that was sent to anybody.
    fn latest(&self) -> BTreeMap<(String, String), (u64, bool)> {
        let mut res = BTreeMap::new();
        for EntryUpdate { entry, .. } in self.updates.iter().filter_map(|it| it.1.entry.as_ref()) {
            let key = (entry.index_key.to_string(), entry.primary_key.to_string());
            let word = (entry.offset, entry.payload.is_some());
            let known = res.entry(key).or_insert(word);
            *known = word.max(*known);
        }
        res
    }

    /// Nothing that a watermark covers comes behind it in the same inbox for the first time.
    fn check_watermarks(&self) {
        let mut floors = BTreeMap::<(&str, u32), u64>::new();
        let mut seen = BTreeSet::new();
        for (node, update) in &self.updates {
            for it in update.watermark.iter().flat_map(|it| &it.floors) {
                let known = floors.entry((node, it.partition)).or_default();
                *known = it.offset.max(*known);
            }
            if let Some(EntryUpdate { entry: it, .. }) = &update.entry {
                let floor = floors.get(&(node.as_str(), it.partition)).copied().unwrap_or(0);
                let is_new = seen.insert((node, it.partition, it.offset, &it.index_key));
                assert!(
                    !is_new || floor <= it.offset,
                    "{it:?} behind a floor of {floor} at {node}"
                );
            }
        }
    }
}

/// A channel, running.
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Where the log of this life begins.
    since: usize,
}

impl Process {
    fn start(topics: &Topics, name: &'static str) -> Self {
        let path = |extension: &str| topics.folder.path().join(format!("{name}.{extension}"));
        let Connection { bootstrap_servers, prefix, .. } = &topics.connection;
        let configuration = format!(
            r#"
            [kafka]
            bootstrap_servers = "{bootstrap_servers}"
            prefix = "{prefix}"
            [channel]
            watermark_every = "100ms"
            listen = "127.0.0.1:0"
            "#
        );
        std::fs::write(path("toml"), configuration).unwrap();
        let since = std::fs::read(path("log")).map_or(0, |it| it.len());
        let log = File::options().create(true).append(true).open(path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(["channel", "--config"]).arg(path("toml")).current_dir(&topics.folder);
        command.env("NO_COLOR", "1").env_remove("ISOTHERM_LOG").stderr(log);
        Self { name, child: command.spawn().unwrap(), log: path("log"), since }
    }

    /// Waits until the group has given it some, since it was started last.
    fn await_partitions(&self) {
        await_that(&format!("{} has partitions", self.name), || {
            self.log()[self.since..].contains("its partitions have changed").then_some(())
        });
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn asked_to_end(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        await_that("the end of a channel", || self.child.try_wait().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
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

//! What a test gives to single nodes, and looks at.

use super::*;

impl World {
    /// Lets one node read all that there is of some logs, and do what it does.
    pub fn deliver(&mut self, name: &str, sources: &[Source]) {
        let name = node(name);
        for _ in 0..20 {
            for source in sources {
                while self.read(&name, *source) {}
            }
            self.run(&name, None);
        }
    }

    /// Lets one node do one step; returns how many scans it begins or ends, which are not carried out.
    pub fn step(&mut self, name: &str) -> usize {
        let now = Millis(self.now);
        let mut outbox = Outbox::default();
        let node = self.nodes.get_mut(&node(name)).unwrap();
        assert!(node.runner.step(now, &mut outbox).expect("it does not die"), "there is one");
        outbox.scans.len()
    }

    /// Lets one node read all of the map that there is.
    pub fn deliver_map(&mut self, name: &str) {
        while self.read_map(&node(name)) {}
        self.run(&node(name), None);
    }

    /// Lets a node not read some logs until it is told otherwise.
    pub fn hold(&mut self, name: &str, sources: &[Source]) {
        let node = self.nodes.get_mut(&node(name)).unwrap();
        node.late = sources.iter().copied().collect();
    }

    pub fn hold_map(&mut self, name: &str) {
        self.nodes.get_mut(&node(name)).unwrap().late_map = true;
    }

    /// Lets a node read everything again.
    pub fn let_read(&mut self, name: &str) {
        let node = self.nodes.get_mut(&node(name)).unwrap();
        node.late.clear();
        node.late_map = false;
    }

    /// Sends an update to a node, as by a map of this generation.
    pub fn update(&mut self, to: &str, generation: u64, entry: Entry) {
        let entry = Some(EntryUpdate { entry, hops: 0 });
        let update = IndexUpdate { generation: Generation(generation), entry, watermark: None };
        let inbox = self.inboxes.entry((node(to), Source::Update)).or_default();
        inbox.push(Record::Update(update));
    }

    /// Sends a watermark of all partitions to a node.
    pub fn mark(&mut self, to: &str, generation: u64, offset: u64, via: Option<&str>) {
        let floors = (0..PARTITIONS).map(|partition| Floor { partition, offset }).collect();
        let watermark = Some(Watermark { floors, via: via.map(node) });
        let update = IndexUpdate { generation: Generation(generation), entry: None, watermark };
        let inbox = self.inboxes.entry((node(to), Source::Update)).or_default();
        inbox.push(Record::Update(update));
    }

    /// Returns the updates to a node: key, version, generation, or the watermark.
    pub fn updates(&self, to: &str) -> Vec<String> {
        let inbox = self.inboxes.get(&(node(to), Source::Update));
        let told = |it: &Record| {
            let Record::Update(IndexUpdate { generation, entry, watermark }) = it else {
                panic!("{it:?} is no update")
            };
            let generation = generation.0;
            match (entry, watermark) {
                (Some(EntryUpdate { entry, hops }), _) => {
                    format!("{}@{} g{generation} hops {hops}", entry.index_key, entry.offset)
                }
                (None, Some(Watermark { floors, via })) => {
                    let via = via.as_ref().map_or("-", |it| &it.0);
                    format!("floor {} g{generation} via {via}", floors[0].offset)
                }
                (None, None) => "nothing".to_owned(),
            }
        };
        inbox.into_iter().flatten().map(told).collect()
    }

    pub fn segments(&self, to: &str) -> Vec<RangeSegment> {
        let inbox = self.inboxes.get(&(node(to), Source::Segment));
        let segments = inbox
            .into_iter()
            .flatten()
            .filter_map(|it| if let Record::Segment(it) = it { Some(it.clone()) } else { None });
        segments.collect()
    }

    pub fn acks(&self, to: &str) -> Vec<SegmentAck> {
        let inbox = self.inboxes.get(&(node(to), Source::Ack));
        let acks = inbox
            .into_iter()
            .flatten()
            .filter_map(|it| if let Record::Ack(it) = it { Some(it.clone()) } else { None });
        acks.collect()
    }

    /// Returns what nodes have said of migrations.
    pub fn words(&self) -> Vec<String> {
        let told = |it: &MigrationStatus| {
            let phase = it.phase.map_or(String::new(), |it| format!(" {it:?}"));
            format!("{} {} {:?}{phase}", it.teller, it.migration, it.status)
        };
        self.statuses.iter().map(told).collect()
    }

    pub fn ignored(&self, name: &str, reason: Ignored) -> u64 {
        let ignored = self.nodes[&node(name)].runner.worker().ignored();
        ignored.get(&reason).copied().unwrap_or_default()
    }

    /// Writes a row: where it stands in the index, or nowhere.
    pub fn row(&mut self, primary: u8, after: Option<&str>) {
        let rows = &mut self.table[primary as usize % PARTITIONS as usize];
        let before = rows.iter().rev().find(|it| it.primary == primary);
        let before = before.and_then(|it| Some(it.after.as_ref()?.0.clone()));
        let payload = rows.len() as u64;
        rows.push(TableRow { primary, before, after: after.map(|it| (it.to_owned(), payload)) });
    }

    /// What the index is to be: `(index key, primary key)` with its version.
    pub fn fold(&self) -> BTreeMap<(Key, Key), u64> {
        let mut rows = BTreeMap::new();
        for table in &self.table {
            for (offset, row) in table.iter().enumerate() {
                rows.insert(row.primary, (row.after.clone(), offset as u64));
            }
        }
        let some = rows.into_iter().filter_map(|(primary, (after, offset))| {
            Some(((key(&after?.0), Key(vec![primary])), offset))
        });
        some.collect()
    }

    /// What the owners hold, all together.
    pub fn held(&self) -> BTreeMap<(Key, Key), u64> {
        let mut res = BTreeMap::new();
        for range in self.map.iter() {
            let snapshot = self.nodes[&range.node].runner.store().snapshot();
            for entry in all(&snapshot, &span_of(range)) {
                if entry.payload.is_some() {
                    res.insert((entry.index_key, entry.primary_key), entry.offset);
                }
            }
        }
        res
    }

    pub fn serving(&self, name: &NodeId) -> Option<Serving<MemorySnapshot>> {
        self.nodes[name].runner.serving()
    }

    /// Reads a key as a router does; `None`: it is to be asked again.
    pub fn get(&self, index: &str, map: &Map) -> Option<Vec<Entry>> {
        let range = map.owner(index.as_bytes())?;
        match self.ask(&range.node, index, range.epoch, Asked::Owner)? {
            Served::Found { entries, .. } => Some(entries),
            Served::Not(Answer::AskSource { node, epoch }) => {
                match self.ask(&node, index, epoch, Asked::Source)? {
                    Served::Found { entries, .. } => Some(entries),
                    Served::Not(_) => None,
                }
            }
            Served::Not(_) => None,
        }
    }

    /// Asks a node for a key; `None`: it serves nothing yet.
    pub fn ask(&self, name: &NodeId, index: &str, epoch: Epoch, asked_as: Asked) -> Option<Served> {
        let limits = Limits {
            reads_max: 1,
            key_bytes_max: 100,
            entries_max: 100,
            looked_at_max: 100,
            answer_bytes_max: 10_000,
        };
        let read = Read { what: What::Key(key(index)), epoch: Some(epoch), asked_as };
        let mut budget = limits.budget(1).unwrap();
        Some(self.serving(name)?.read(&read, &limits, &mut budget).unwrap())
    }

    pub fn roles(&self, name: &str) -> Vec<String> {
        let roles = &self.nodes[&node(name)].runner.worker().remembered().roles;
        let told = roles.values().map(|it| {
            let role = format!("{:?}", it.role);
            format!("{} {}", it.span, role.split(['(', ' ']).next().unwrap_or_default())
        });
        told.collect()
    }

    /// Of each range that is active at a node: the size by its role, and by its store.
    pub fn sizes(&self, name: &NodeId) -> Vec<[Size; 2]> {
        let runner = &self.nodes[name].runner;
        let sizes = runner.worker().remembered().roles.values().filter_map(|it| {
            let Role::Active(active) = &it.role else { return None };
            let mut counted = Size::default();
            let entries = all(&runner.store().snapshot(), &it.span);
            entries.iter().for_each(|it| counted.change(it, None));
            Some([active.size, counted])
        });
        sizes.collect()
    }

    /// Checks that the index is the fold of the table, and every migration is over.
    pub fn check(&self) {
        assert_eq!(self.held(), self.fold(), "{}", self.told());
        assert!(self.flights.is_empty(), "{}", self.told());
        assert_eq!(self.dead, [], "nothing is unusable");
        for range in self.map.iter() {
            let start = &range.range_start.0;
            let found = self.get(str::from_utf8(start).unwrap(), &self.map);
            assert!(found.is_some(), "{} is served: {}", span_of(range), self.told());
        }
    }

    /// Checks that a node came across nothing that never happens.
    pub fn audit(&self, name: &NodeId) {
        let ignored = self.nodes[name].runner.worker().ignored();
        let never = [
            Ignored::SumsDiffer,
            Ignored::BrokenStream,
            Ignored::UnexpectedRange,
            Ignored::MalformedUpdate,
            Ignored::NoSuchGeneration,
            Ignored::RefusedRow,
        ];
        for reason in never {
            assert!(!ignored.contains_key(&reason), "{name}: {reason:?} {}", self.told());
        }
    }

    pub fn told(&self) -> String {
        let mut res = format!("\nflights {:?}\n", self.flights.keys().collect::<Vec<_>>());
        for (name, node) in &self.nodes {
            let worker = node.runner.worker();
            res += &format!(
                "{name}: generation {}, started {}, waiting {:?}, ignored {:?}\n",
                worker.generation().0,
                worker.is_started(),
                worker.waiting().collect::<Vec<_>>(),
                worker.ignored()
            );
            for held in worker.remembered().roles.values() {
                res += &format!("  {} {:?}\n", held.span, held.role);
            }
            res += &format!("  outgoing {:?}\n", worker.remembered().outgoing);
            res += &format!("  marks {:?}\n", worker.remembered().marks);
        }
        let statuses: Vec<_> = self.statuses.iter().rev().take(8).collect();
        res += &format!("statuses {statuses:?}\n");
        res
    }
}

pub fn all(snapshot: &MemorySnapshot, span: &KeySpan) -> Vec<Entry> {
    snapshot.page(span, None, Limit { entries: usize::MAX, bytes: usize::MAX }).unwrap().entries
}

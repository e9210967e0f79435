//! A planner and a channel that do what they are told to.

use super::*;

impl World {
    /// The first assignment, or one after the loss of a node: from the table.
    pub fn assign(&mut self, ranges: &[(&str, &str, &str, From)]) {
        let ranges = ranges.iter().map(|(start, end, to, source)| {
            let span = span(start, end);
            let epoch = self.map.overlapping(&span).map(|it| it.epoch.0).max().unwrap_or_default();
            Assignment {
                range_start: span.start,
                range_end: span.end,
                node: node(to),
                inbox: settings(to).inbox,
                epoch: Epoch(epoch + 1),
                generation: Generation(0),
                last: false,
                migration: None,
                source: *source,
                source_node: None,
                source_epoch: Epoch(epoch),
            }
        });
        let ranges = ranges.collect();
        self.publish(ranges);
    }

    fn publish(&mut self, mut ranges: Vec<Assignment>) {
        let generation = self.map.next_generation();
        let count = ranges.len();
        for (at, range) in ranges.iter_mut().enumerate() {
            range.generation = generation;
            range.last = at + 1 == count;
            let row = Row { start: range.range_start.clone(), assignment: Some(range.clone()) };
            self.map.apply(&row).unwrap();
        }
        self.assignment.extend(ranges);
    }

    pub fn start(&mut self, span: KeySpan, to: &str) -> MigrationId {
        self.migrations += 1;
        let migration = MigrationId(self.migrations);
        let range = self.map.range(&span).expect("a range");
        let start = MigrateRange {
            command: Command::Start,
            migration,
            range_start: span.start,
            range_end: span.end,
            source_node: range.node.clone(),
            source_epoch: range.epoch,
            source_inbox: range.inbox,
            destination_node: node(to),
            destination_inbox: settings(to).inbox,
            generation: self.map.generation(),
            bandwidth_bytes_per_s: 0,
            deadline: Millis(u64::MAX),
            plan: None,
            reason: None,
        };
        self.flights.insert(migration, start.clone());
        self.commands.push(start);
        migration
    }

    pub fn cancel(&mut self, migration: MigrationId) {
        let cancel = MigrateRange {
            command: Command::Cancel,
            generation: self.map.generation(),
            ..self.flights[&migration].clone()
        };
        self.commands.push(cancel);
    }

    /// Reads statuses, and commits what is ready.
    pub fn plan(&mut self) -> bool {
        let Some(status) = self.statuses.get(self.statuses_read).cloned() else { return false };
        self.statuses_read += 1;
        let migration = status.migration;
        let Some(start) = self.flights.get(&migration).cloned() else { return true };
        let is_cancelled =
            |it: &MigrateRange| it.migration == migration && it.command == Command::Cancel;
        let is_cancelled = self.commands.iter().any(is_cancelled);
        let committed = |it: &Assignment| it.migration == Some(migration);
        let is_committed = self.assignment.iter().any(committed);
        match (status.status, status.phase) {
            (Status::InProgress, Some(Phase::Ready)) if !is_cancelled && !is_committed => {
                self.publish(vec![Assignment {
                    range_start: start.range_start,
                    range_end: start.range_end,
                    node: start.destination_node,
                    inbox: start.destination_inbox,
                    epoch: Epoch(start.source_epoch.0 + 1),
                    generation: Generation(0),
                    last: false,
                    migration: Some(migration),
                    source: From::Node,
                    source_node: Some(start.source_node),
                    source_epoch: start.source_epoch,
                }]);
            }
            (end @ (Status::Complete | Status::Failed), _) => {
                assert_eq!(end == Status::Complete, is_committed, "{status:?}");
                self.flights.remove(&migration);
                self.ended.insert(migration, end);
            }
            _ => (),
        }
        true
    }

    pub fn channel_map(&self) -> (Map, Generation) {
        let mut map = Map::default();
        for range in &self.assignment[..self.channel.map_read] {
            let row = Row { start: range.range_start.clone(), assignment: Some(range.clone()) };
            map.apply(&row).unwrap();
        }
        let generation = map.generation();
        (map, generation)
    }

    /// Sends up to so many rows of each partition.
    pub fn send_rows(&mut self, max: usize) {
        let (map, generation) = self.channel_map();
        if generation == Generation(0) {
            return;
        }
        for partition in 0..PARTITIONS {
            let next = &mut self.channel.next[partition as usize];
            let rows = self.table[partition as usize].iter().enumerate().skip(*next).take(max);
            for (offset, row) in rows {
                for entry in entries(row, partition, offset as u64) {
                    let owner = map.owner(&entry.index_key.0).unwrap().node.clone();
                    let entry = Some(EntryUpdate { entry, hops: 0 });
                    let update = IndexUpdate { generation, entry, watermark: None };
                    let inbox = self.inboxes.entry((owner, Source::Update)).or_default();
                    inbox.push(Record::Update(update));
                }
                *next = offset + 1;
            }
        }
    }

    pub fn send_marks(&mut self) {
        let (map, generation) = self.channel_map();
        let nodes = map.iter().flat_map(|it| [Some(it.node.clone()), it.source_node.clone()]);
        let nodes: BTreeSet<_> = nodes.flatten().collect();
        let floors = (0..PARTITIONS).map(|partition| Floor {
            partition,
            offset: self.channel.next[partition as usize] as u64,
        });
        let watermark = Some(Watermark { floors: floors.collect(), via: None });
        for node in nodes {
            let update = IndexUpdate { generation, entry: None, watermark: watermark.clone() };
            self.inboxes.entry((node, Source::Update)).or_default().push(Record::Update(update));
        }
    }
}

//! Lets things go wrong.

use super::logs::PARTITIONS;
use super::options::Fault;
use super::routers::RouterProcess;
use super::workers::{Death, SOURCES, WorkerProcess};
use super::world::{ROUTERS, World};

impl World {
    pub fn go_wrong(&mut self, fault: Fault) {
        let Self { now, random, logs, .. } = self;
        let now = *now;
        match fault {
            Fault::PlannerDies => {
                self.planner.die(logs, now, random);
                self.count("planner died");
            }
            Fault::PlannerIsReplaced => {
                self.planner.replace(logs, now);
                self.count("planner was replaced");
            }
            Fault::WorkerDies => {
                let one = self.any_worker();
                let worker = self.workers.get_mut(&one).expect("all are there");
                let keep = self.random.pick(&[0, 0, 1, 5]);
                worker.crash(keep, now, &mut self.logs, &mut self.random);
                self.lose_requests(&one);
                self.count("worker died");
            }
            Fault::WorkerDiesInStep => {
                let one = self.any_worker();
                self.read_some(&one);
                let death = self.random.pick(&[Death::Before, Death::Before, Death::Behind]);
                let dies = (self.random.below(2), death);
                self.run(&one, 4, Some(dies));
            }
            Fault::WorkerIsAway => {
                let one = self.any_worker();
                let (keep, until) =
                    (self.random.pick(&[0, 0, 1, 5]), now + self.random.below(5_000));
                self.workers.get_mut(&one).expect("all are there").leave(keep, until);
                self.lose_requests(&one);
                self.count("worker was away");
            }
            Fault::ChannelDies => {
                let [one, heir] = [0; 2].map(|_| random.index(self.channels.len()));
                self.channels.crash(one, heir, now, logs, random);
                self.count("channel died");
            }
            Fault::ChannelIsReplaced => {
                let one = random.index(self.channels.len());
                self.channels.replace(one, 1 - one);
                self.count("channel was replaced");
            }
            Fault::PartitionGoesOver => {
                let partition = random.below(PARTITIONS.into()) as u32;
                self.channels.hand_over(partition, random.index(self.channels.len()));
                self.count("partition was handed over");
            }
            Fault::ChannelsAreAway => {
                self.channels.away_until = now + random.below(8_000);
                self.count("channels were away");
            }
            Fault::RouterDies => {
                let one = random.index(ROUTERS);
                self.routers[one].restart(logs);
                self.count("router died");
            }
            Fault::SomethingIsLate => self.be_late(),
            Fault::TableIsCompacted => {
                let old = now.saturating_sub(self.options.compaction_lag_ms);
                let mut unread = 0;
                for partition in 0..PARTITIONS {
                    // What is read may go as well: time is short here.
                    let until = logs.stored[partition as usize].map_or(0, |it| it.0);
                    unread += logs.compact(partition, until, old);
                }
                self.count("table was compacted");
                self.count_many("rows compacted away unread", unread);
            }
            Fault::MapIsCompacted => {
                // Nobody is as late as what goes is old.
                let read = self.workers.values().filter_map(WorkerProcess::map_read);
                let read = read.chain(self.routers.iter().map(RouterProcess::map_read));
                let read = read.chain(self.channels.maps_read()).min();
                self.logs.compact_assignment(read.unwrap_or_default());
                self.count("map was compacted");
            }
        }
    }

    /// Somebody reads something not at all for a while.
    fn be_late(&mut self) {
        let until = self.now + self.random.below(4_000);
        match self.random.below(4) {
            0 => {
                let one = self.random.index(self.channels.len());
                self.channels.be_late(one, until);
                self.count("channel was late in the map");
            }
            1 => {
                let one = self.random.index(ROUTERS);
                self.routers[one].late_until = until;
                self.count("router was late in the map");
            }
            2 => {
                let one = self.any_worker();
                self.workers.get_mut(&one).expect("all are there").late.insert(None, until);
                self.count("worker was late in the map");
            }
            _ => {
                let (one, source) = (self.any_worker(), self.random.pick(&SOURCES));
                let worker = self.workers.get_mut(&one).expect("all are there");
                worker.late.insert(Some(source), until);
                self.count("worker was late in its inbox");
            }
        }
    }
}

//! Judges what a client has read: each entry as it was at some time, and never earlier than it was read
//! before through the same router.

use std::collections::BTreeMap;

use isotherm::web::reads::{Answer, Found, What};
use schemas::Key;

use super::logs::{KEYS, Logs, PRIMARIES, key};

/// Since when, at the earliest, what was last read of an entry stands: index key, primary key, by router.
#[derive(Default)]
pub struct Client {
    read: BTreeMap<(usize, u8, u8), u64>,
}

impl Client {
    /// Takes in the answers to reads that were asked together.
    pub fn read(&mut self, router: usize, reads: &[What], answers: &[Answer], logs: &Logs) {
        let before = self.read.clone();
        for (what, answer) in reads.iter().zip(answers) {
            let Answer::Found(found) = answer else {
                panic!("a read has failed: {answer:?} to {what:?}")
            };
            for index in KEYS {
                for primary in 0..PRIMARIES {
                    if is_covered(what, found, &key(index), &key(primary)) {
                        self.entry((router, index, primary), found, &before, logs);
                    }
                }
            }
        }
    }

    fn entry(
        &mut self,
        (router, index, primary): (usize, u8, u8),
        found: &Found,
        before: &BTreeMap<(usize, u8, u8), u64>,
        logs: &Logs,
    ) {
        let mut entries = found.entries.iter();
        let is_it = |it: &&isotherm::web::reads::FoundEntry| {
            it.index_key == key(index) && it.primary_key == key(primary)
        };
        let found = entries.find(is_it).map(|it| it.offset);
        // As it stood, and until when.
        let versions = logs.versions.get(&primary).map_or(&[][..], Vec::as_slice);
        let here = |(offset, at): &(u64, Option<Key>)| (*at == Some(key(index))).then_some(*offset);
        let mut states = vec![(0, None)];
        states.extend(versions.iter().map(|it| (it.0 + 1, here(it))));
        let earliest = before.get(&(router, index, primary)).copied().unwrap_or_default();
        let fits = states.iter().enumerate().find(|(at, state)| {
            let until = states.get(at + 1).map_or(u64::MAX, |it| it.0);
            state.1 == found && earliest < until
        });
        let Some((_, (since, _))) = fits else {
            panic!(
                "a read went back: of {primary:02x} at {index:02x} router {router} shows {found:?}, \
                 after what stands since {earliest} of {states:?}"
            );
        };
        let latest = self.read.entry((router, index, primary)).or_default();
        *latest = (*latest).max(*since);
    }
}

/// Tells whether an answer says something of an entry, be it that it is not there.
fn is_covered(what: &What, found: &Found, index: &Key, primary: &Key) -> bool {
    let is_reached =
        found.next.as_ref().is_none_or(|it| (index, primary) <= (&it.index_key, &it.primary_key));
    let is_asked = match what {
        What::Key(asked) => asked == index,
        What::Range { start, end, .. } => start <= index && (end.0.is_empty() || index < end),
    };
    is_asked && is_reached
}

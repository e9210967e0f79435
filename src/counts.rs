//! Counts what happens, by reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counters by name, since the start of the process. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counts {
    pub fn add(&self, name: &'static str) {
        self.add_many(name, 1);
    }

    pub fn add_many(&self, name: &'static str, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(name).or_default() += count;
    }

    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells counts in one line, as in `/readyz?verbose`.
pub fn told(counts: &BTreeMap<&'static str, u64>) -> String {
    let told: Vec<_> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    if told.is_empty() { "nothing so far".into() } else { told.join(", ") }
}

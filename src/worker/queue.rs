//! Holds what waits to be used, in order, and knows how many bytes that is, about.

use std::collections::VecDeque;

use schemas::range_segment::Entry;

use super::events::Record;
use crate::transfer::segment::entry_bytes;

/// What counts at least, whatever it is.
const BARE_BYTES: usize = 64;

/// Tells how much memory something holds, about.
pub(super) trait Bytes {
    fn bytes(&self) -> usize;
}

/// First in, first out.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Bytes> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.items.front()
    }

    pub(super) fn back(&self) -> Option<&T> {
        self.items.back()
    }

    pub(super) fn push_back(&mut self, it: T) {
        self.bytes += it.bytes();
        self.items.push_back(it);
    }

    /// Puts back what was taken.
    pub(super) fn push_front(&mut self, it: T) {
        self.bytes += it.bytes();
        self.items.push_front(it);
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let res = self.items.pop_front()?;
        self.bytes -= res.bytes();
        Some(res)
    }

    pub(super) fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        self.items.retain(is_kept);
        self.bytes = self.items.iter().map(Bytes::bytes).sum();
    }
}

impl Bytes for [Entry] {
    fn bytes(&self) -> usize {
        self.iter().map(entry_bytes).sum()
    }
}

impl Bytes for Record {
    fn bytes(&self) -> usize {
        match self {
            Self::Segment(it) => BARE_BYTES + it.entries.bytes(),
            Self::Update(it) => {
                BARE_BYTES + it.entry.as_ref().map_or(0, |it| entry_bytes(&it.entry))
            }
            Self::Status(_) | Self::Command(_) | Self::Ack(_) => BARE_BYTES,
        }
    }
}

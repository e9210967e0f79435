//! Writes the version of an entry and its payload as one value.
//!
//! ```text
//!  0 tombstone, 1 live │ partition, 4 bytes │ offset, 8 bytes │ payload
//! ```

use schemas::range_segment::Entry;

use super::{EntryKey, StoreError, key};

const TOMBSTONE: u8 = 0;
const LIVE: u8 = 1;

/// Of what is before the payload.
const HEAD_BYTES: usize = 13;

pub(super) fn encode(entry: &Entry, into: &mut Vec<u8>) {
    let payload = entry.payload.as_deref();
    into.reserve(HEAD_BYTES + payload.map_or(0, <[u8]>::len));
    into.push(if payload.is_some() { LIVE } else { TOMBSTONE });
    into.extend(entry.partition.to_le_bytes());
    into.extend(entry.offset.to_le_bytes());
    into.extend(payload.unwrap_or_default());
}

/// Returns the entry that is stored under a composite key.
pub(super) fn decode(composite: &[u8], value: &[u8]) -> Result<Entry, StoreError> {
    let broken = || no_entry(composite);
    let EntryKey { index_key, primary_key } = key::decode(composite).ok_or_else(broken)?;
    decode_under(index_key, primary_key, value).ok_or_else(broken)
}

/// What is stored under a composite key is no entry.
pub(super) fn no_entry(composite: &[u8]) -> StoreError {
    StoreError::Broken(format!("no entry is stored under {composite:02x?}"))
}

/// Returns the entry of these keys; `None` if the value is none.
pub(super) fn decode_under(
    index_key: schemas::Key,
    primary_key: schemas::Key,
    value: &[u8],
) -> Option<Entry> {
    let (tag, rest) = value.split_first()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (offset, payload) = rest.split_first_chunk()?;
    let payload = match *tag {
        LIVE => Some(payload.to_vec()),
        TOMBSTONE if payload.is_empty() => None,
        _ => return None,
    };
    let (partition, offset) = (u32::from_le_bytes(*partition), u64::from_le_bytes(*offset));
    Some(Entry { index_key, primary_key, partition, offset, payload })
}

/// Returns how long the payload is.
pub(super) fn payload_bytes(value: &[u8]) -> usize {
    value.len().saturating_sub(HEAD_BYTES)
}

/// Returns the offset alone, which is all that is asked of most values.
pub(super) fn offset(value: &[u8]) -> Option<u64> {
    value.get(5..13)?.first_chunk().map(|it| u64::from_le_bytes(*it))
}

//! What the index was asked: batches of queries, written by app servers, the router and the channel.
//!
//! A batch is read in one of two ways: [`crate::wire::decode`] owns what it read, [`read`] hands
//! out one query after the other and copies nothing.

use serde::{Deserialize, Serialize};

use crate::wire::{DecodeError, datum, record};
use crate::{Key, Millis};

/// A batch of queries; one is fine, a hundred are 3.5 times cheaper to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueriesLogged {
    pub queries: Vec<QueryLogged>,
}

record!(QueriesLogged, "query_log");

/// One query, served or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryLogged {
    /// When it was asked, by its writer's clock. Only tells how late the record is.
    pub time: Millis,
    /// What was asked; of a scan, where it began.
    pub key: Key,
    pub op: Op,
    /// Service time without waiting, in microseconds; `None` counts the configured cost of the operation.
    #[serde(default)]
    pub cost_us: Option<u64>,
    /// Bytes returned or written.
    #[serde(default)]
    pub bytes: u64,
    /// The cost is a mean, as the query was not answered.
    #[serde(default)]
    pub estimated: bool,
}

/// What a query does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Op {
    Read,
    Scan,
    Write,
    /// A symbol that is newer than this program; counts as a read.
    #[serde(other)]
    Unknown,
}

/// One query, its key still where the record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    pub time: Millis,
    pub key: &'a [u8],
    pub op: Op,
    pub cost_us: Option<u64>,
    pub bytes: u64,
    pub estimated: bool,
}

/// Hands out the queries of a record in their order, and returns how many there are.
///
/// **All or none**: a record is walked once before the first query is handed out, so what is
/// malformed in its last byte has not been counted in part.
///
/// It is written by hand for this one schema, as no other record comes by the million; a test
/// holds it equal to [`crate::wire::decode`], on what is malformed as well.
pub fn read<'a>(value: &'a [u8], each: impl FnMut(Query<'a>)) -> Result<usize, DecodeError> {
    let datum = datum::<QueriesLogged>(value)?;
    walk(datum, |_| ())
        .and_then(|_| walk(datum, each))
        .map_err(|fault| DecodeError::Malformed(fault.0.to_owned()))
}

/// What is wrong with a datum.
#[derive(Clone, Copy, Debug)]
struct Fault(&'static str);

/// The symbols of `Op` in the order of the schema.
const SYMBOLS: [Op; 4] = [Op::Unknown, Op::Read, Op::Scan, Op::Write];

/// Walks the one field of the record: an array in blocks, ended by one of no items. A negative
/// count is followed by the block's length in bytes.
#[inline]
fn walk<'a>(datum: &'a [u8], mut each: impl FnMut(Query<'a>)) -> Result<usize, Fault> {
    let mut cursor = Cursor { rest: datum };
    let mut count = 0;
    loop {
        let block = cursor.signed()?;
        if block < 0 {
            cursor.varint()?;
        }
        // No query takes less than a byte, so there are not more of them.
        let left = datum.len() - count;
        let block = usize::try_from(block.unsigned_abs()).ok().filter(|it| *it <= left);
        let block = block.ok_or(Fault("a block claims more queries than it has bytes"))?;
        if block == 0 {
            break;
        }
        for _ in 0..block {
            each(cursor.query()?);
        }
        count += block;
    }
    if cursor.rest.is_empty() { Ok(count) } else { Err(Fault("bytes behind the datum")) }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn query(&mut self) -> Result<Query<'a>, Fault> {
        let time = Millis(self.unsigned()?);
        let length = usize::try_from(self.unsigned()?).map_err(|_| Fault("a key is too long"))?;
        let split = self.rest.split_at_checked(length);
        let (key, rest) = split.ok_or(Fault("it ends within a key"))?;
        self.rest = rest;
        let symbol = usize::try_from(self.unsigned()?).ok().and_then(|it| SYMBOLS.get(it));
        let op = *symbol.ok_or(Fault("an operation is none of the schema's symbols"))?;
        let cost_us = match self.unsigned()? {
            0 => None,
            1 => Some(self.unsigned()?),
            2.. => return Err(Fault("a cost is neither null nor a number")),
        };
        let bytes = self.unsigned()?;
        let estimated = match self.byte()? {
            0 => false,
            1 => true,
            2.. => return Err(Fault("a boolean is neither 0 nor 1")),
        };
        Ok(Query { time, key, op, cost_us, bytes, estimated })
    }

    /// A `long` that must not be negative.
    #[inline]
    fn unsigned(&mut self) -> Result<u64, Fault> {
        let zigzag = self.varint()?;
        if zigzag & 1 == 0 { Ok(zigzag >> 1) } else { Err(Fault("a number is negative")) }
    }

    #[inline]
    fn signed(&mut self) -> Result<i64, Fault> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// Seven bits a byte, the lowest first; the tenth byte has room for one bit.
    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        let mut res = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            res |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(res);
            }
        }
        Err(Fault("a number has more than 64 bits"))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or(Fault("it ends within a query"))?;
        self.rest = rest;
        Ok(*byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};

    #[test]
    fn batch_reads_as_it_decodes() {
        for seed in 1..=300 {
            println!("seed {seed}");
            let mut random = Random(seed);
            let batch = random.batch();
            let value = encode(&batch);
            assert_eq!(decode::<QueriesLogged>(&value).unwrap(), batch);
            check(&value);
        }
    }

    #[test]
    fn truncated_batch_reads_as_it_decodes() {
        let value = encode(&Random(7).batch());
        (0..value.len()).for_each(|length| assert!(!check(&value[..length])));
    }

    #[test]
    fn garbled_batch_reads_as_it_decodes() {
        let mut refused = 0;
        for seed in 1..=20_000 {
            let mut random = Random(seed);
            let mut value = encode(&random.batch());
            for _ in 0..=random.below(3) {
                let at = 10 + random.below(value.len() as u64 - 10) as usize;
                value[at] =
                    [0, 1, 2, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(7) as usize];
            }
            if !check(&value) {
                refused += 1;
            }
        }
        assert!((4_000..20_000).contains(&refused), "{refused} of 20000 were refused");
    }

    #[test]
    fn blocks_with_their_length_in_bytes_read_as_they_decode() {
        let batch = QueriesLogged { queries: vec![query(); 3] };
        let plain = encode(&batch);
        let (header, items) = (&plain[..10], &plain[11..plain.len() - 1]);
        let one = &items[..items.len() / 3];
        let length = one.len() as u8 * 2;
        // A block of -1, a block of 2, the end.
        let value = [header, &[1, length], one, &[4], one, one, &[0]].concat();
        assert_eq!(decode::<QueriesLogged>(&value).unwrap(), batch);
        assert!(check(&value));
    }

    #[test]
    fn negative_numbers_are_malformed() {
        for field in 0..3 {
            let negative = |it: usize, value: u8| if it == field { 1 } else { value };
            // time, key "k", READ, cost, bytes, not estimated.
            let query = [negative(0, 8), 2, b'k', 2, 2, negative(1, 8), negative(2, 8), 0];
            let datum = [&[2][..], &query, &[0]].concat();
            let header = &encode(&QueriesLogged::default())[..10];
            let value = [header, &datum].concat();
            let error = decode::<QueriesLogged>(&value).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
            assert!(!check(&value));
        }
    }

    #[test]
    fn nothing_is_handed_out_of_a_record_that_is_malformed_at_its_end() {
        let mut value = encode(&QueriesLogged { queries: vec![query(); 5] });
        value.push(0);
        let mut handed = 0;
        let error = read(&value, |_| handed += 1).unwrap_err();
        assert_eq!(error, DecodeError::Malformed("bytes behind the datum".to_owned()));
        assert_eq!(handed, 0);
    }

    #[test]
    fn keys_are_not_copied() {
        let value = encode(&QueriesLogged { queries: vec![query()] });
        read(&value, |it| assert!(value.as_ptr_range().contains(&it.key.as_ptr()))).unwrap();
    }

    /// Holds `read` equal to `decode`, and tells whether the value is a record.
    fn check(value: &[u8]) -> bool {
        let mut queries = Vec::new();
        let read = read(value, |it| {
            queries.push(QueryLogged {
                time: it.time,
                key: Key(it.key.to_vec()),
                op: it.op,
                cost_us: it.cost_us,
                bytes: it.bytes,
                estimated: it.estimated,
            });
        });
        match (read, decode::<QueriesLogged>(value)) {
            (Ok(count), Ok(decoded)) => {
                assert_eq!((count, queries), (decoded.queries.len(), decoded.queries));
                true
            }
            (Err(read), Err(decoded)) => {
                assert_eq!(read.code(), decoded.code(), "{value:02x?}");
                false
            }
            (read, decoded) => panic!("{read:?}, but {decoded:?}: {value:02x?}"),
        }
    }

    fn query() -> QueryLogged {
        let key = Key(b"k".to_vec());
        QueryLogged { time: Millis(4), key, op: Op::Scan, cost_us: None, bytes: 5, estimated: true }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 32) % n
        }

        /// A number of any length on the wire.
        fn number(&mut self) -> u64 {
            let bits = self.below(64);
            self.below(1 << 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (63 - bits).max(1)
        }

        fn batch(&mut self) -> QueriesLogged {
            let queries = (0..self.below(6)).map(|_| QueryLogged {
                time: Millis(self.number()),
                key: Key((0..self.below(90)).map(|it| it as u8).collect()),
                op: SYMBOLS[self.below(4) as usize],
                cost_us: Some(self.number()).filter(|it| it % 3 > 0),
                bytes: self.number(),
                estimated: self.below(2) == 0,
            });
            QueriesLogged { queries: queries.collect() }
        }
    }
}

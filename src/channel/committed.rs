//! Says what a channel stores with an offset: a generation, and when all of the partition was read.
//!
//! ```text
//!  "7 1790000000000 42"    by generation 7 or before; all that was there at that time, before offset 42
//!  "7 0 0"                 … and never all
//!  "7"                     … and nothing is known of that: of a table that is not compacted, or an older channel
//! ```

use std::fmt;

use schemas::{Generation, Millis};

/// What is stored with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// From the offset on, nothing is sent by an older map.
    pub generation: Generation,
    pub caught_up: Option<CaughtUp>,
}

/// When a channel last had read all that was there of a partition, and where that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// 0: never.
    pub time: Millis,
    pub offset: u64,
}

impl Committed {
    /// Reads what was stored; `None` is what no channel writes.
    pub fn read(text: &str) -> Option<Self> {
        let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        let (generation, caught_up) = match numbers.ok()?[..] {
            [generation] => (generation, None),
            [generation, ms, offset] => (generation, Some(CaughtUp { time: Millis(ms), offset })),
            _ => return None,
        };
        Some(Self { generation: Generation(generation), caught_up })
    }
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.generation.0)?;
        match self.caught_up {
            Some(CaughtUp { time, offset }) => write!(f, " {} {offset}", time.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r24_what_is_stored_is_read_back_and_that_of_an_older_channel_too() {
        let check = |text: &str, caught_up: Option<(u64, u64)>| {
            let caught_up = caught_up.map(|(ms, offset)| CaughtUp { time: Millis(ms), offset });
            let expected = Committed { generation: Generation(7), caught_up };
            assert_eq!(Committed::read(text), Some(expected));
            assert_eq!(expected.to_string(), text);
        };
        check("7", None);
        check("7 0 0", Some((0, 0)));
        check("7 1790000000000 42", Some((1_790_000_000_000, 42)));
        for text in ["", "x", "7 1", "7 1 2 3", "-7", "7 1 x", "7  1 2"] {
            assert_eq!(Committed::read(text), None, "{text:?}");
        }
    }
}

//! Reads the values of arguments: moments, capacities.

use std::fmt;

use schemas::Millis;

/// Where to begin or end in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Beginning,
    End,
    At(Millis),
    /// So long before now.
    Ago {
        ms: u64,
    },
}

impl Moment {
    /// Returns the stamp that it means, if it means one.
    pub fn stamp(self, now: Millis) -> Option<Millis> {
        match self {
            Self::Beginning | Self::End => None,
            Self::At(stamp) => Some(stamp),
            Self::Ago { ms } => Some(Millis(now.0.saturating_sub(ms))),
        }
    }
}

/// Reads `beginning`, `end`, `-15m`, RFC 3339, or Unix time in seconds or milliseconds.
pub fn moment(text: &str) -> Result<Moment, String> {
    match text {
        "beginning" => return Ok(Moment::Beginning),
        "end" | "now" => return Ok(Moment::End),
        _ => (),
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).map_err(|it| format!("`{ago}` ago: {it}"))?;
        let ms = u64::try_from(ago.as_millis()).map_err(|_| format!("`{text}` is too long ago"))?;
        return Ok(Moment::Ago { ms });
    }
    if let Ok(unix) = text.parse::<u64>() {
        // Seconds do not reach so far before the year 5138, milliseconds are past it since 1973.
        let ms = if unix < 100_000_000_000 { unix * 1_000 } else { unix };
        return Ok(Moment::At(Millis(ms)));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|_| "use beginning, end, -15m, 2026-01-31T12:00:00Z, or Unix time".to_owned())?;
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| format!("`{text}` is before 1970"))?;
    let ms = u64::try_from(since.as_millis()).map_err(|_| format!("`{text}` is too far ahead"))?;
    Ok(Moment::At(Millis(ms)))
}

/// What nodes can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capacities {
    /// Parts of a total that follows from the load.
    Ratio(Vec<u64>),
    /// `cost_us` per second, for each node.
    UsPerS(Vec<u64>),
}

impl Capacities {
    pub fn len(&self) -> usize {
        match self {
            Self::Ratio(it) | Self::UsPerS(it) => it.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Capacities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, between) = match self {
            Self::Ratio(it) => (it, ":"),
            Self::UsPerS(it) => (it, ","),
        };
        let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join(between))
    }
}

/// Reads `1:2:3:4` as a ratio, and `1000000,2000000` as microseconds of service a second.
pub fn capacities(text: &str) -> Result<Capacities, String> {
    let read = |separator: char| -> Result<Vec<u64>, String> {
        let part = |it: &str| match it.trim().parse() {
            Ok(0) => Err("a node that can do nothing is none".to_owned()),
            Ok(it) => Ok(it),
            Err(_) => Err(format!("`{it}` is no whole number: use 1:2:3:4 or 1000000,2000000")),
        };
        text.split(separator).map(part).collect()
    };
    if text.contains(':') {
        read(':').map(Capacities::Ratio)
    } else {
        read(',').map(Capacities::UsPerS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        let check = |text: &str, at| assert_eq!(moment(text), Ok(at), "{text}");
        check("beginning", Moment::Beginning);
        check("end", Moment::End);
        check("-15m", Moment::Ago { ms: 900_000 });
        check("1700000000", Moment::At(Millis(1_700_000_000_000)));
        check("1700000000123", Moment::At(Millis(1_700_000_000_123)));
        check("2023-11-14T22:13:20Z", Moment::At(Millis(1_700_000_000_000)));
        check("2023-11-14 22:13:20.5", Moment::At(Millis(1_700_000_000_500)));
        for wrong in ["yesterday", "-soon", "", "12:00", "1960-01-01T00:00:00Z"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Moment::Ago { ms: 5 }.stamp(Millis(12)), Some(Millis(7)));
        assert_eq!(Moment::Ago { ms: 50 }.stamp(Millis(12)), Some(Millis(0)));
    }

    #[test]
    fn capacities_are_a_ratio_or_numbers() {
        for text in ["1:2:3", "1000000,2000000", "7"] {
            assert_eq!(capacities(text).unwrap().to_string(), text);
        }
        assert_eq!(capacities("1:2:3"), Ok(Capacities::Ratio(vec![1, 2, 3])));
        assert_eq!(capacities("500000, 7"), Ok(Capacities::UsPerS(vec![500_000, 7])));
        for wrong in ["", "1:x", "0", "1:0", "-3", "1:2,3"] {
            assert!(capacities(wrong).is_err(), "{wrong}");
        }
    }
}

//! Rounds loads to quanta: steps of one up to a hundred, of one per cent above.
//!
//! A forecast moves a little at every tick; it enters the dataflow again, and is published, only when
//! its quantum has changed. All is integer arithmetic, so every machine has the same quanta.

use std::sync::OnceLock;

/// No load is greater; what is, is rounded down to it. A thousand nodes of a thousand cores.
const LOAD_MAX: u64 = 1_000_000_000_000;

/// The quanta in ascending order, and for each [`slot`] of loads the first one not below its loads.
struct Quanta {
    all: Vec<u64>,
    first: Vec<usize>,
}

fn quanta() -> &'static Quanta {
    static QUANTA: OnceLock<Quanta> = OnceLock::new();
    QUANTA.get_or_init(|| {
        let next = |it: &u64| Some(it + (it / 100).max(1)).filter(|it| *it <= LOAD_MAX);
        let all: Vec<_> = std::iter::successors(Some(0), next).collect();
        let mut first = vec![all.len(); slot(u64::MAX) + 1];
        for (i, quantum) in all.iter().enumerate().rev() {
            first[slot(*quantum)] = i;
        }
        // A slot in which no quantum lies begins with the next one's.
        for slot in (1..first.len()).rev() {
            first[slot - 1] = first[slot - 1].min(first[slot]);
        }
        Quanta { all, first }
    })
}

/// Loads whose first six bits agree: a few quanta, so that finding one needs no search through all.
fn slot(load: u64) -> usize {
    let doublings = (load.max(32).ilog2() - 5) as usize;
    doublings * 32 + (load >> doublings) as usize
}

/// Returns the quantum nearest to a load; of two equally near, the lower.
pub fn quantise(load: u64) -> u64 {
    let Quanta { all, first } = quanta();
    let mut above = first[slot(load)];
    while above < all.len() && all[above] < load {
        above += 1;
    }
    match (above.checked_sub(1).map(|i| all[i]), all.get(above)) {
        (Some(below), Some(&above)) if load - below <= above - load => below,
        (_, Some(&above)) => above,
        (Some(below), None) => below,
        (None, None) => unreachable!("zero is a quantum"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantum_is_within_half_a_per_cent() {
        for load in (0..200).chain((200..1_000_000).step_by(37)).chain([123_456_789_012]) {
            let quantum = quantise(load);
            assert!(quantum.abs_diff(load) * 200 <= load.max(200), "{load} became {quantum}");
            assert_eq!(quantise(quantum), quantum, "a quantum stays");
        }
        assert_eq!(quantise(u64::MAX), *quanta().all.last().unwrap());
    }

    #[test]
    fn every_quantum_is_its_own_and_of_two_equally_near_the_lower_is_taken() {
        for pair in quanta().all.windows(2) {
            assert_eq!(quantise(pair[0]), pair[0]);
            let middle = pair[0] + (pair[1] - pair[0]) / 2;
            assert_eq!(quantise(middle), pair[0]);
            assert_eq!(quantise(middle + 1), pair[1]);
        }
    }
}

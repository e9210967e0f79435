//! Rounds loads to quanta: steps of one up to a hundred, of one per cent above.
//!
//! A forecast moves a little at every tick; it enters the dataflow again, and is published, only when
//! its quantum has changed. All is integer arithmetic, so every machine has the same quanta.

use std::sync::OnceLock;

/// No load is greater; what is, is rounded down to it. A thousand nodes of a thousand cores.
const LOAD_MAX: u64 = 1_000_000_000_000;

/// The quanta in ascending order.
fn quanta() -> &'static [u64] {
    static QUANTA: OnceLock<Vec<u64>> = OnceLock::new();
    QUANTA.get_or_init(|| {
        let next = |it: &u64| Some(it + (it / 100).max(1)).filter(|it| *it <= LOAD_MAX);
        std::iter::successors(Some(0), next).collect()
    })
}

/// Returns the quantum nearest to a load; of two equally near, the lower.
pub fn quantise(load: u64) -> u64 {
    let quanta = quanta();
    let above = quanta.partition_point(|it| *it < load);
    match (above.checked_sub(1).map(|i| quanta[i]), quanta.get(above)) {
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
        assert_eq!(quantise(u64::MAX), *quanta().last().unwrap());
    }
}

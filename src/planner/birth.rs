//! Shares ranges out among nodes for the first time: contiguous shares, by capacity.

use std::collections::BTreeMap;

use schemas::NodeId;

/// Returns the owner of each of `n` ranges in key order: nodes in the order of their ids, each with
/// a share of the ranges that is as near to its capacity's as whole ranges allow.
pub fn shares(n: usize, capacities: &BTreeMap<NodeId, u64>) -> Vec<NodeId> {
    assert!(!capacities.is_empty(), "somebody must own the ranges");
    let total: u128 = capacities.values().map(|it| u128::from(*it)).sum::<u128>().max(1);
    let mut owners = Vec::with_capacity(n);
    let mut before = 0_u128;
    for (node, capacity) in capacities {
        before += u128::from(*capacity);
        // Rounded to the nearest; the last node gets what is left.
        let until = (before * n as u128 * 2 + total) / (total * 2);
        while (owners.len() as u128) < until {
            owners.push(node.clone());
        }
    }
    let last = capacities.keys().next_back().expect("there is a node");
    owners.resize(n, last.clone());
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_contiguous_and_by_capacity() {
        check(32, &[1, 2, 3, 4], &[3, 7, 9, 13]);
        check(4, &[1, 1, 1, 1], &[1, 1, 1, 1]);
        check(2, &[5, 5, 5], &[1, 0, 1]);
        check(3, &[0, 7], &[0, 3]);
    }

    fn check(n: usize, capacities: &[u64], expected: &[usize]) {
        let id = |i: usize| NodeId(format!("n{i}"));
        let nodes = capacities.iter().enumerate().map(|(i, it)| (id(i), *it)).collect();
        let owners = shares(n, &nodes);
        assert!(owners.is_sorted());
        let count = |i| owners.iter().filter(|it| **it == id(i)).count();
        let counts: Vec<_> = (0..capacities.len()).map(count).collect();
        assert_eq!(counts, expected);
    }
}

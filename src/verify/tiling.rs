//! Tells from the roles of all workers what is to be waited for, and where the ranges do not tile.

use std::collections::BTreeMap;

use schemas::{Generation, Key, KeySpan, NodeId};

use crate::web::held::{Held, HeldInterval, Role};

/// What each worker said last, without entries.
pub type Heads = BTreeMap<NodeId, Held>;

/// Where the active intervals of all workers do not cover the key space exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Gap(KeySpan),
    Overlap { left: (NodeId, KeySpan), right: (NodeId, KeySpan) },
}

/// Returns why to wait, if there is a reason: an older map, a floor that is not reached, a gap that
/// somebody is about to fill.
pub fn waits_for(
    heads: &Heads,
    generation: Generation,
    ends: &BTreeMap<u32, u64>,
) -> Option<String> {
    for (node, head) in heads {
        if head.generation < generation {
            let (has, is) = (head.generation.0, generation.0);
            return Some(format!(
                "{node} has generation {has} of the assignment, which is at {is}"
            ));
        }
    }
    for (node, it) in active(heads) {
        if let Some(Behind { partition, floor, end }) = behind(it, ends) {
            let span = it.span();
            return Some(format!(
                "{node} has {span} to offset {floor} of partition {partition} of the table, which ends \
                 at {end}"
            ));
        }
    }
    let gaps = faults(heads).into_iter().filter_map(|it| match it {
        Fault::Gap(span) => Some(span),
        Fault::Overlap { .. } => None,
    });
    for gap in gaps {
        for (node, head) in heads {
            let on_the_way = head
                .intervals
                .iter()
                .find(|it| it.role != Role::Active && it.span().overlaps(&gap));
            if let Some(it) = on_the_way {
                return Some(format!("{node} does not serve {} yet: {:?}", it.span(), it.role));
            }
        }
    }
    None
}

/// Returns where the active intervals do not tile, in key order.
pub fn faults(heads: &Heads) -> Vec<Fault> {
    let mut res = Vec::new();
    // The one that reaches furthest so far.
    let mut last: Option<(&NodeId, KeySpan)> = None;
    for (node, it) in active(heads) {
        let span = it.span();
        let reached = match &last {
            None => Some(Key::default()),
            Some((_, last)) => Some(last.end.clone()).filter(|it| !it.0.is_empty()),
        };
        let overlaps = last.as_ref().filter(|(_, last)| last.overlaps(&span));
        if let Some((left, last)) = overlaps {
            let left = ((*left).clone(), last.clone());
            res.push(Fault::Overlap { left, right: (node.clone(), span.clone()) });
        }
        if let Some(reached) = reached.as_ref().filter(|it| **it < span.start) {
            res.push(Fault::Gap(KeySpan { start: reached.clone(), end: span.start.clone() }));
        }
        let reaches_further = match (&reached, span.end.0.is_empty()) {
            (None, _) => false,
            (Some(_), true) => true,
            (Some(reached), false) => last.is_none() || *reached < span.end,
        };
        if reaches_further {
            last = Some((node, span));
        }
    }
    match last {
        None => res.push(Fault::Gap(KeySpan::all())),
        Some((_, span)) if !span.end.0.is_empty() => {
            res.push(Fault::Gap(KeySpan { start: span.end, end: Key::default() }));
        }
        Some(_) => (),
    }
    res
}

/// What an interval has not of the table.
pub struct Behind {
    pub partition: u32,
    /// Offset up to which it has all.
    pub floor: u64,
    /// Where the partition ends.
    pub end: u64,
}

/// Returns the first partition of whose end an interval has not all.
pub fn behind(it: &HeldInterval, ends: &BTreeMap<u32, u64>) -> Option<Behind> {
    ends.iter().find_map(|(partition, end)| {
        let floor = it.floors.iter().find(|it| it.partition == *partition);
        let floor = floor.map_or(0, |it| it.offset);
        (floor < *end).then_some(Behind { partition: *partition, floor, end: *end })
    })
}

/// The active intervals of all workers, in key order.
fn active(heads: &Heads) -> Vec<(&NodeId, &HeldInterval)> {
    let all = heads.iter().flat_map(|(node, head)| head.intervals.iter().map(move |it| (node, it)));
    let mut res: Vec<_> = all.filter(|it| it.1.role == Role::Active).collect();
    res.sort_by(|a, b| (&a.1.range_start, a.0).cmp(&(&b.1.range_start, b.0)));
    res
}

#[cfg(test)]
mod tests {
    use schemas::Epoch;
    use schemas::range_segment::Floor;

    use super::*;

    /// Heads of workers: (node, start, end, role, floor of partition 0).
    fn heads(rows: &[(&str, &str, &str, Role, u64)]) -> Heads {
        let mut heads = Heads::new();
        for (node, start, end, role, floor) in rows {
            let node = NodeId((*node).into());
            let head = heads.entry(node.clone()).or_insert_with(|| Held {
                node,
                store_id: "s".into(),
                generation: Generation(5),
                intervals: Vec::new(),
                entries: Vec::new(),
                next: None,
            });
            let [range_start, range_end] = [start, end].map(|it| Key(it.as_bytes().to_vec()));
            let floors = vec![Floor { partition: 0, offset: *floor }];
            let (role, epoch) = (*role, Epoch(1));
            head.intervals.push(HeldInterval { range_start, range_end, role, epoch, floors });
        }
        heads
    }

    fn told(rows: &[(&str, &str, &str, Role, u64)]) -> Vec<String> {
        let one = |it| match it {
            Fault::Gap(span) => format!("gap {span}"),
            Fault::Overlap { left, right } => {
                format!("{} {} and {} {}", left.0, left.1, right.0, right.1)
            }
        };
        faults(&heads(rows)).into_iter().map(one).collect()
    }

    use Role::{Active, Applying, Import, Leaving};

    #[test]
    fn what_does_not_tile_is_told() {
        let whole =
            [("a", "", "f", Active, 0), ("b", "f", "m", Active, 0), ("a", "m", "", Active, 0)];
        assert_eq!(told(&whole), [""; 0]);
        assert_eq!(told(&[]), ["gap [-, -)"]);
        assert_eq!(told(&whole[1..]), ["gap [-, f)"]);
        assert_eq!(told(&whole[..2]), ["gap [m, -)"]);
        assert_eq!(told(&[whole[0], whole[2]]), ["gap [f, m)"]);
        let wide = [whole[0], whole[1], ("c", "c", "g", Active, 0), whole[2]];
        assert_eq!(told(&wide), ["a [-, f) and c [c, g)", "c [c, g) and b [f, m)"]);
        let twice = [whole[0], whole[1], whole[2], ("b", "t", "x", Active, 0)];
        assert_eq!(told(&twice), ["a [m, -) and b [t, x)"]);
        let inner =
            [("a", "", "m", Active, 0), ("b", "c", "d", Active, 0), ("b", "m", "", Active, 0)];
        assert_eq!(told(&inner), ["a [-, m) and b [c, d)"]);
        let leaving =
            [("a", "", "m", Leaving, 0), ("b", "", "m", Active, 0), ("b", "m", "", Active, 0)];
        assert_eq!(told(&leaving), [""; 0]);
    }

    #[test]
    fn floors_maps_and_moves_underway_are_waited_for_and_true_gaps_are_not() {
        let ends = BTreeMap::from([(0, 9), (1, 0)]);
        let waits = |rows: &[(&str, &str, &str, Role, u64)], generation| {
            waits_for(&heads(rows), Generation(generation), &ends).unwrap_or_default()
        };
        let whole =
            [("a", "", "m", Active, 9), ("b", "m", "", Active, 12), ("b", "", "m", Import, 0)];
        assert_eq!(waits(&whole, 5), "");
        assert!(waits(&whole, 6).contains("a has generation 5"));
        let behind = [whole[0], ("b", "m", "", Active, 8)];
        let reason = waits(&behind, 5);
        assert!(reason.contains("b has [m, -) to offset 8 of partition 0"), "{reason}");
        let moving = [("a", "", "m", Leaving, 9), ("b", "", "m", Applying, 9), whole[1]];
        assert!(waits(&moving, 5).contains("does not serve [-, m) yet"));
        assert_eq!(waits(&[whole[1]], 5), "", "nobody is about to fill it");
    }
}

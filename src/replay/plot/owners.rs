//! Draws who serves what: a colour for each node, a line where a range begins, a circle for a move.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{ACROSS, Frame, LEFT, OWNERS_HEIGHT, Panel, Picture, colour};
use crate::svg::{Svg, add_rect};

/// Columns that are looked at; more cannot be told apart.
const COLUMNS_MAX: usize = ACROSS as usize / 2;
/// So many ranges that change make about a quarter of a megabyte.
const CHANGES_MAX: usize = 8_000;
/// More circles would hide what they are on.
const CIRCLES_MAX: usize = 2_000;

pub fn draw(svg: &mut Svg, picture: &Picture, panel: Panel) {
    let mut ground = String::new();
    add_rect(&mut ground, [LEFT, panel.top], [ACROSS, panel.height]);
    svg.fill("#eee", &ground);
    let mut paths = vec![String::new(); picture.nodes.len()];
    for ([from, to], [low, high], owner) in areas(&picture.frames) {
        let (left, right) = (panel.x(from), panel.x(to));
        let (top, bottom) = (panel.y(high), panel.y(low));
        if let Some(path) = paths.get_mut(owner)
            && top < bottom
            && left < right
        {
            add_rect(path, [left, top], [right - left, bottom - top]);
        }
    }
    for (node, path) in paths.iter().enumerate() {
        svg.fill(colour::node(node), path);
    }
    let mut lines = String::new();
    for (from, to, place) in boundaries(&picture.frames) {
        write!(lines, "M{} {}H{}", panel.x(from), panel.y(place), panel.x(to))
            .expect("a string takes all that is written");
    }
    svg.stroke("#fff", 0.5, "opacity=\"0.45\"", &lines);
    svg.open("fill=\"#fff\" fill-opacity=\"0.55\" stroke=\"#000\" stroke-width=\"1\"");
    let step = picture.moves.len().div_ceil(CIRCLES_MAX).max(1);
    for moved in picture.moves.iter().step_by(step) {
        let y = panel.y((moved.start + moved.end) / 2.0);
        svg.circle([panel.x(moved.frame) as f64, y as f64], 2.6);
    }
    svg.close();
}

/// The frames that are looked at, with ranges by whole pixels: all, or as many as there are columns,
/// or fewer if so much changes that the picture would grow too large.
fn looked_at(frames: &[Frame]) -> Vec<(usize, Vec<(f64, usize)>)> {
    let fitted = |frame: &Frame| {
        let mut ranges: Vec<(f64, usize)> = Vec::new();
        for (start, owner) in &frame.ranges {
            let start = (start * OWNERS_HEIGHT as f64).round() / OWNERS_HEIGHT as f64;
            // A range of no pixel gives way to the next one.
            ranges.pop_if(|it| it.0 == start);
            ranges.push((start, *owner));
        }
        ranges
    };
    let mut looked_at: Vec<_> = frames.iter().map(fitted).enumerate().collect();
    let mut step = frames.len().div_ceil(COLUMNS_MAX).max(1);
    loop {
        let mut at = 0..;
        looked_at.retain(|_| at.next().is_some_and(|it: usize| it.is_multiple_of(step)));
        let changed = looked_at.windows(2).map(|it| {
            let kept = it[1].1.iter().filter(|range| it[0].1.contains(range)).count();
            it[1].1.len() - kept
        });
        if looked_at.len() < 8 || changed.sum::<usize>() <= CHANGES_MAX {
            return looked_at;
        }
        step = 2;
    }
}

/// Areas of one owner: frames from and to, places from and to, owner. Neighbours of one owner are
/// one, and so are frames between which nothing changes.
fn areas(frames: &[Frame]) -> Vec<([usize; 2], [f64; 2], usize)> {
    // By where they begin and end, and owner, in the bits of the floats, whose order is theirs.
    let mut open: BTreeMap<(u64, u64, usize), usize> = BTreeMap::new();
    let mut areas = Vec::new();
    let area = |(low, high, owner): (u64, u64, usize), from: usize, to: usize| {
        ([from, to], [low, high].map(f64::from_bits), owner)
    };
    for (at, ranges) in looked_at(frames) {
        let groups: Vec<_> = ranges.chunk_by(|a, b| a.1 == b.1).collect();
        let key = |i: usize| {
            let (low, owner) = groups[i][0];
            let high = groups.get(i + 1).map_or(1.0, |it| it[0].0);
            (low.to_bits(), high.to_bits(), owner)
        };
        let now: BTreeMap<_, _> = (0..groups.len()).map(|i| (key(i), at)).collect();
        let ended = open.iter().filter(|(key, _)| !now.contains_key(key));
        areas.extend(ended.map(|(key, from)| area(*key, *from, at)));
        let mut next = now;
        next.iter_mut().for_each(|(key, from)| *from = open.get(key).copied().unwrap_or(at));
        open = next;
    }
    areas.extend(open.into_iter().map(|(key, from)| area(key, from, frames.len())));
    areas
}

/// Where ranges begin inside the key space: frames from and to, and the place.
pub fn boundaries(frames: &[Frame]) -> Vec<(usize, usize, f64)> {
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for (at, ranges) in looked_at(frames) {
        let places = ranges.iter().filter(|it| 0.0 < it.0);
        let mut now: BTreeMap<_, _> = places.map(|it| (it.0.to_bits(), at)).collect();
        let ended = open.iter().filter(|(place, _)| !now.contains_key(place));
        lines.extend(ended.map(|(place, from)| (*from, at, f64::from_bits(*place))));
        now.iter_mut().for_each(|(place, from)| *from = open.get(place).copied().unwrap_or(at));
        open = now;
    }
    let last = |(place, from)| (from, frames.len(), f64::from_bits(place));
    lines.extend(open.into_iter().map(last));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_begin_with_splits_and_end_with_joins() {
        let frame = |places: &[f64]| {
            let ranges = [0.0].iter().chain(places).map(|it| (*it, 0)).collect();
            Frame { ranges, ..Frame::default() }
        };
        let frames = [frame(&[0.5]), frame(&[0.25, 0.5]), frame(&[0.25]), frame(&[0.25])];
        assert_eq!(boundaries(&frames), [(0, 2, 0.5), (1, 4, 0.25)]);
    }

    #[test]
    fn areas_are_those_of_owners_and_tile_the_panel() {
        let frame = |owners: [usize; 4]| {
            let ranges = owners.iter().enumerate().map(|(i, it)| (i as f64 / 4.0, *it)).collect();
            Frame { ranges, ..Frame::default() }
        };
        let frames = [frame([0, 0, 1, 1]), frame([0, 1, 1, 1]), frame([0, 1, 1, 1])];
        let found = areas(&frames);
        assert_eq!(
            found,
            [
                ([0, 1], [0.0, 0.5], 0),
                ([0, 1], [0.5, 1.0], 1),
                ([1, 3], [0.0, 0.25], 0),
                ([1, 3], [0.25, 1.0], 1),
            ]
        );
    }
}

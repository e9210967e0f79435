//! Draws how loaded nodes are: load ÷ capacity as it was, and as it would have been.

use super::{ACROSS, Frame, LEFT, Panel, Picture, colour, mark};
use crate::replay::tally::WARM_PERMILLE;
use crate::svg::{Anchor, Svg, axis};

/// Points of a line; more cannot be told apart.
const POINTS_MAX: usize = ACROSS as usize / 2;
/// Lines of more nodes than this are the hottest ones'.
const LINES_MAX: usize = 24;
/// What is above is cut off, lest one peak flatten the rest.
const LOAD_MAX: f64 = 4.0;

pub fn draw(svg: &mut Svg, picture: &Picture, panel: Panel) {
    let loads = picture.frames.iter().flat_map(|it| it.loads.iter().chain(&it.loads_first));
    let high = axis::rounded_up(loads.copied().fold(1.0, f64::max).min(LOAD_MAX));
    let y = |load: f64| {
        let part = (load / high).clamp(0.0, 1.0);
        panel.bottom() as f64 - part * panel.height as f64
    };
    for at in axis::marks(0.0, high, 5) {
        mark(svg, panel, y(at).round() as i64, &axis::told(at));
    }
    svg.upward([18.0, (panel.top + panel.height / 2) as f64], "load ÷ capacity");
    let warm = WARM_PERMILLE as f64 / 1e3;
    svg.stroke("#000", 0.9, "", &format!("M{LEFT} {:.1}h{ACROSS}", y(warm)));
    let label = [(LEFT + ACROSS + 6) as f64, y(warm) + 4.0];
    svg.text(label, Anchor::Start, 11, &axis::told(warm));
    let dotted = "stroke-dasharray=\"1.5 2.5\" stroke-linejoin=\"round\"";
    for number in shown(picture) {
        let first = line(picture, panel, |frame| frame.loads_first.get(number).copied(), y);
        svg.stroke(colour::node(number), 1.2, dotted, &first);
    }
    for number in shown(picture) {
        let own = line(picture, panel, |frame| frame.loads.get(number).copied(), y);
        svg.stroke(colour::node(number), 1.6, "stroke-linejoin=\"round\"", &own);
    }
}

/// The nodes that are drawn: all, or those that were hottest at some time.
fn shown(picture: &Picture) -> Vec<usize> {
    let peak = |number: usize| {
        let loads = picture.frames.iter().filter_map(|it| it.loads.get(number));
        loads.copied().fold(0.0, f64::max)
    };
    let mut numbers: Vec<_> = (0..picture.nodes.len()).map(|it| (it, peak(it))).collect();
    numbers.sort_by(|a, b| b.1.total_cmp(&a.1));
    numbers.truncate(LINES_MAX);
    let mut numbers: Vec<_> = numbers.into_iter().map(|it| it.0).collect();
    numbers.sort_unstable();
    numbers
}

/// A line through the middle of frames; of several frames in a point, the greatest.
fn line(
    picture: &Picture,
    panel: Panel,
    load: impl Fn(&Frame) -> Option<f64>,
    y: impl Fn(f64) -> f64,
) -> String {
    let step = picture.frames.len().div_ceil(POINTS_MAX).max(1);
    let mut path = String::new();
    for (i, frames) in picture.frames.chunks(step).enumerate() {
        let Some(most) = frames.iter().filter_map(&load).max_by(f64::total_cmp) else { continue };
        let (from, to) = (panel.x(i * step), panel.x(i * step + frames.len()));
        let point = format!("{:.1} {:.1}", (from + to) as f64 / 2.0, y(most));
        path += if path.is_empty() { "M" } else { "L" };
        path += &point;
    }
    path
}

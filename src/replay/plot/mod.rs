//! Draws a replay: heat, owners and nodes, three panels over one time axis, as SVG.
//!
//! ```text
//!  Picture ──> fit to pixels ──┬─> heat.rs    density of load, boundaries of ranges, what is forecast
//!              (columns, rows) ├─> owners.rs  who served what, where moves began
//!                              └─> nodes.rs   load ÷ capacity, as it was and as it would have been
//! ```
//!
//! * **Bounded.** Whatever was replayed, a picture stays below a megabyte: columns and rows grow
//!   coarser until what is left of them is few enough.

mod colour;
mod heat;
mod owners;
mod nodes;

use schemas::Key;

use super::report::sized;
use crate::svg::{self, Anchor, Svg, axis};

/// All that is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// What was replayed.
    pub name: String,
    pub tick_ms: u64,
    pub nodes: Vec<PictureNode>,
    /// Where each row of heat begins in the key space, from 0 to below 1; ascending, the first is 0.
    pub rows: Vec<f64>,
    pub frames: Vec<Frame>,
    pub moves: Vec<Moved>,
    pub splits: u64,
    pub joins: u64,
    pub bytes_moved: u64,
    /// Overload areas in node-seconds: as it was, and with the first assignment kept.
    pub overload: f64,
    pub overload_first: f64,
    pub ahead: Option<Ahead>,
}

/// A node, by its number in the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureNode {
    pub name: String,
    pub capacity_us_per_s: u64,
}

/// One tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Load of each row.
    pub heat: Vec<u64>,
    /// Where each range begins, and its owner's number; ascending, the first at 0.
    pub ranges: Vec<(f64, usize)>,
    /// Load ÷ capacity of each node: as it was, and with the first assignment.
    pub loads: Vec<f64>,
    pub loads_first: Vec<f64>,
}

/// Where a move began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Index of the frame.
    pub frame: usize,
    pub start: f64,
    pub end: f64,
}

/// What is forecast behind the last tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ahead {
    pub ticks: u64,
    /// Where each range begins, and its load in the unit of the rows' heat; ascending.
    pub ranges: Vec<(f64, u64)>,
}

/// How keys become places from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyAxis {
    /// Keys that are big-endian integers, from the first to below the second.
    Integers(u64, u64),
    /// Any keys: by their rank among these, ascending.
    Ranks(Vec<Key>),
}

impl KeyAxis {
    pub fn place(&self, key: &Key) -> f64 {
        match self {
            Self::Integers(low, high) => {
                // A shorter key is one that is continued with zeros.
                let mut bytes = [0; 8];
                bytes.iter_mut().zip(&key.0).for_each(|(to, from)| *to = *from);
                let index = u64::from_be_bytes(bytes).clamp(*low, *high);
                (index - low) as f64 / (high - low).max(1) as f64
            }
            Self::Ranks(keys) => {
                keys.partition_point(|it| it <= key) as f64 / (keys.len() + 1) as f64
            }
        }
    }
}

const WIDTH: i64 = 900;
const LEFT: i64 = 58;
/// Width of the panels.
const ACROSS: i64 = 764;
const HEAT_HEIGHT: i64 = 220;
const OWNERS_HEIGHT: i64 = 220;
const NODES_HEIGHT: i64 = 150;
/// Above a panel, for its title.
const TITLE: i64 = 36;
const LEGEND_ROW: i64 = 18;
const LEGEND_COLUMNS: usize = 5;
/// So many nodes have a name in the legend.
const LEGEND_MAX: usize = 20;

/// A rectangle that data is drawn into, and the part of time that a column of pixels is.
#[derive(Clone, Copy, Debug)]
struct Panel {
    top: i64,
    height: i64,
    /// Frames of the run, and ticks that are forecast behind it.
    frames: usize,
    ahead: u64,
}

impl Panel {
    /// The left edge of a frame, or the right one of the last.
    fn x(&self, frame: usize) -> i64 {
        let ticks = self.frames as u64 + self.ahead;
        LEFT + (frame as u64 * ACROSS as u64 / ticks.max(1)) as i64
    }

    /// A place in the key space; it ascends.
    fn y(&self, place: f64) -> i64 {
        self.bottom() - (place.clamp(0.0, 1.0) * self.height as f64).round() as i64
    }

    fn bottom(&self) -> i64 {
        self.top + self.height
    }
}

impl Picture {
    /// The picture as a file of SVG.
    pub fn svg(&self) -> String {
        let legend_rows = self.nodes.len().min(LEGEND_MAX).div_ceil(LEGEND_COLUMNS) as i64;
        let panel = |top, height| {
            let (frames, ahead) = (self.frames.len(), self.ahead.as_ref().map_or(0, |it| it.ticks));
            Panel { top, height, frames, ahead }
        };
        let heat = panel(TITLE, HEAT_HEIGHT);
        let owners = panel(heat.bottom() + TITLE + legend_rows * LEGEND_ROW, OWNERS_HEIGHT);
        let nodes = panel(owners.bottom() + TITLE, NODES_HEIGHT);
        let mut svg = Svg::new(WIDTH, nodes.bottom() + 38, &self.title());
        self.titles(&mut svg, [heat, owners, nodes]);
        heat::draw(&mut svg, self, heat);
        self.legend(&mut svg, owners.top - 12 - (legend_rows - 1).max(0) * LEGEND_ROW);
        owners::draw(&mut svg, self, owners);
        nodes::draw(&mut svg, self, nodes);
        for panel in [heat, owners] {
            frame(&mut svg, panel);
            for place in axis::marks(0.0, 1.0, 5) {
                mark(&mut svg, panel, panel.y(place), &axis::told(place));
            }
            svg.upward([18.0, (panel.top + panel.height / 2) as f64], "key space");
        }
        frame(&mut svg, nodes);
        self.time_axis(&mut svg, [heat, owners, nodes]);
        svg.end()
    }

    fn title(&self) -> String {
        format!("{}: heat, owners and load of {} nodes", self.name, self.nodes.len())
    }

    fn titles(&self, svg: &mut Svg, [heat, owners, nodes]: [Panel; 3]) {
        let ranges = |frame: Option<&Frame>| frame.map_or(0, |it| it.ranges.len());
        let ahead = if self.ahead.is_some() { "; hatched: forecast" } else { "" };
        let plural = |count: u64, one: &str| {
            if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
        };
        let (left, above) = (LEFT as f64, |panel: Panel| (panel.top - 8) as f64);
        let said = format!(
            "Heat: where the load of {} is (dots: where ranges begin, {} at first, {} at the end{ahead})",
            self.name,
            ranges(self.frames.first()),
            ranges(self.frames.last())
        );
        svg.text([left, above(heat)], Anchor::Start, 13, &said);
        let said = format!(
            "Owners: who serves it (circles: {}, {}; {}, {})",
            plural(self.moves.len() as u64, "move"),
            sized(self.bytes_moved),
            plural(self.splits, "split"),
            plural(self.joins, "join")
        );
        svg.text([left, (heat.bottom() + TITLE - 8) as f64], Anchor::Start, 13, &said);
        debug_assert!(heat.bottom() + TITLE <= owners.top, "the legend has its rows");
        let unit = [(LEFT + ACROSS) as f64, (heat.bottom() + TITLE - 8) as f64];
        svg.text(unit, Anchor::End, 11, "capacity in seconds of service per second");
        let said = format!(
            "Nodes: solid as it was, dotted with the first assignment kept. \
             Overload area {} against {} node-seconds",
            area(self.overload),
            area(self.overload_first)
        );
        svg.text([left, above(nodes)], Anchor::Start, 13, &said);
    }

    fn legend(&self, svg: &mut Svg, top: i64) {
        let width = ACROSS / LEGEND_COLUMNS as i64;
        for (number, node) in self.nodes.iter().enumerate().take(LEGEND_MAX) {
            let x = LEFT + (number % LEGEND_COLUMNS) as i64 * width;
            let y = top + (number / LEGEND_COLUMNS) as i64 * LEGEND_ROW;
            let mut path = String::new();
            svg::add_rect(&mut path, [x, y - 8], [22, 9]);
            svg.fill(colour::node(number), &path);
            let more = (number + 1 == LEGEND_MAX && LEGEND_MAX < self.nodes.len())
                .then(|| format!(", and {} more", self.nodes.len() - LEGEND_MAX));
            let capacity = axis::told(node.capacity_us_per_s as f64 / 1e6);
            let name: String = node.name.chars().take(12).collect();
            let said = format!("{name}: {capacity}{}", more.unwrap_or_default());
            svg.text([(x + 27) as f64, y as f64], Anchor::Start, 11, &said);
        }
    }

    fn time_axis(&self, svg: &mut Svg, panels: [Panel; 3]) {
        let [.., last] = panels;
        let ticks = last.frames as u64 + last.ahead;
        let (unit, unit_ms) = axis::time_unit((ticks * self.tick_ms) as f64);
        let length = (ticks * self.tick_ms) as f64 / unit_ms;
        for at in axis::marks(0.0, length, 10) {
            let x = LEFT as f64 + at / length.max(f64::MIN_POSITIVE) * ACROSS as f64;
            for panel in panels {
                let path = format!("M{x:.1} {}v4", panel.bottom());
                svg.stroke("#000", 1.0, "", &path);
            }
            svg.text([x, (last.bottom() + 16) as f64], Anchor::Middle, 11, &axis::told(at));
        }
        let middle = (LEFT + ACROSS / 2) as f64;
        let tick = axis::told(self.tick_ms as f64 / 1e3);
        let said = format!("{unit} (a tick is {tick} s)");
        svg.text([middle, (last.bottom() + 31) as f64], Anchor::Middle, 11, &said);
    }
}

fn frame(svg: &mut Svg, panel: Panel) {
    let path = format!("M{LEFT} {}h{ACROSS}v{}h-{ACROSS}z", panel.top, panel.height);
    svg.stroke("#000", 1.0, "", &path);
}

/// A mark on the axis at the left.
fn mark(svg: &mut Svg, panel: Panel, y: i64, text: &str) {
    debug_assert!((panel.top..=panel.bottom()).contains(&y), "a mark is at its panel");
    svg.stroke("#000", 1.0, "", &format!("M{LEFT} {y}h-4"));
    svg.text([(LEFT - 7) as f64, (y + 4) as f64], Anchor::End, 11, text);
}

/// An area with as many digits as say something.
fn area(node_seconds: f64) -> String {
    if node_seconds < 9.95 { format!("{node_seconds:.1}") } else { format!("{node_seconds:.0}") }
}

#[cfg(test)]
mod tests;

//! Draws where the load is: its density over key space and time, on a logarithmic scale.

use super::{ACROSS, LEFT, Panel, Picture, colour};
use crate::svg::{Anchor, Svg, add_rect, axis};

/// Steps of the scale.
const SHADES: usize = 24;
/// A column is at least so many pixels wide.
const COLUMN: i64 = 2;
/// And a row so many high.
const ROW: i64 = 2;
/// So many runs of one shade make about half a megabyte.
const RUNS_MAX: usize = 30_000;
/// The scale covers so much.
const SPAN: f64 = 30.0;

/// A run of one shade: column, end column, row.
type Run = (usize, usize, usize);

/// Density of load as a multiple of its mean over key space and run, by column and row of equal
/// width.
struct Raster {
    /// The frames at which columns begin, and their end.
    columns: Vec<usize>,
    rows: usize,
    density: Vec<Vec<f64>>,
}

/// What the shades mean.
struct Scale {
    high: f64,
}

pub fn draw(svg: &mut Svg, picture: &Picture, panel: Panel) {
    let (mut columns, mut rows) = ((ACROSS / COLUMN) as usize, (panel.height / ROW) as usize);
    let (raster, scale, runs) = loop {
        let raster = Raster::new(picture, columns, rows);
        let scale = Scale::of(&raster);
        let runs = runs(&raster, &scale);
        if runs.iter().map(Vec::len).sum::<usize>() <= RUNS_MAX || columns + rows < 16 {
            break (raster, scale, runs);
        }
        if columns < rows * 2 { rows = rows * 3 / 4 } else { columns = columns * 3 / 4 }
    };
    let mut ground = String::new();
    add_rect(&mut ground, [LEFT, panel.top], [panel.x(panel.frames) - LEFT, panel.height]);
    svg.fill(&colour::heat(0.0), &ground);
    let y = |row: usize| panel.bottom() - (row * panel.height as usize / raster.rows) as i64;
    for (shade, runs) in runs.iter().enumerate().skip(1) {
        let mut path = String::new();
        for (from, to, row) in runs {
            let [left, right] = [from, to].map(|it| panel.x(raster.columns[*it]));
            add_rect(&mut path, [left, y(row + 1)], [right - left, y(*row) - y(row + 1)]);
        }
        svg.fill(&colour::heat(shade as f64 / (SHADES - 1) as f64), &path);
    }
    boundaries(svg, picture, panel);
    ahead(svg, picture, panel, &scale);
    bar(svg, panel, &scale);
}

impl Raster {
    fn new(picture: &Picture, columns: usize, rows: usize) -> Self {
        let frames = picture.frames.len();
        let columns = columns.clamp(1, frames.max(1));
        let columns: Vec<_> = (0..=columns).map(|it| it * frames / columns).collect();
        let rows = rows.clamp(1, picture.rows.len().max(1));
        let all: u64 = picture.frames.iter().flat_map(|it| &it.heat).sum();
        // Load of a row of pixels in a frame, were all load spread evenly.
        let mean = (all as f64 / (frames * rows).max(1) as f64).max(f64::MIN_POSITIVE);
        let column = |ends: &[usize]| {
            let mut sums = vec![0.0; rows];
            for frame in &picture.frames[ends[0]..ends[1]] {
                spread(&frame.heat, &picture.rows, &mut sums);
            }
            let part = mean * (ends[1] - ends[0]).max(1) as f64;
            sums.iter_mut().for_each(|it| *it /= part);
            sums
        };
        let density = columns.windows(2).map(column).collect();
        Self { columns, rows, density }
    }
}

/// Adds heat, by rows of any width, to sums by rows of equal width.
fn spread(heat: &[u64], starts: &[f64], sums: &mut [f64]) {
    let rows = sums.len() as f64;
    for (i, load) in heat.iter().enumerate().filter(|(_, load)| 0 < **load) {
        let start = starts[i] * rows;
        let end = starts.get(i + 1).copied().unwrap_or(1.0) * rows;
        let width = (end - start).max(1e-9);
        let first = (start as usize).min(sums.len() - 1);
        let last = (end.ceil() as usize).clamp(first + 1, sums.len());
        for (row, sum) in sums.iter_mut().enumerate().take(last).skip(first) {
            let inside = (end.min(row as f64 + 1.0) - start.max(row as f64)).max(0.0);
            *sum += *load as f64 * if last == first + 1 { 1.0 } else { inside / width };
        }
    }
}

impl Scale {
    /// Up to what all but a few in a thousand stay below.
    fn of(raster: &Raster) -> Self {
        let mut densities: Vec<_> = raster.density.iter().flatten().copied().collect();
        densities.retain(|it| 0.0 < *it);
        densities.sort_unstable_by(f64::total_cmp);
        let most = densities.get(densities.len().saturating_sub(1 + densities.len() / 400));
        Self { high: axis::rounded_up(most.copied().unwrap_or(1.0).max(3.0)) }
    }

    /// From 0 to 1.
    fn part(&self, density: f64) -> f64 {
        (1.0 + (density.max(1e-12) / self.high).ln() / SPAN.ln()).clamp(0.0, 1.0)
    }

    fn shade(&self, density: f64) -> usize {
        (self.part(density) * (SHADES - 1) as f64).round() as usize
    }
}

/// The runs of each shade along time.
fn runs(raster: &Raster, scale: &Scale) -> Vec<Vec<Run>> {
    let mut runs = vec![Vec::new(); SHADES];
    for row in 0..raster.rows {
        let shades: Vec<_> = raster.density.iter().map(|it| scale.shade(it[row])).collect();
        let mut from = 0;
        for run in shades.chunk_by(|a, b| a == b) {
            if 0 < run[0] {
                runs[run[0]].push((from, from + run.len(), row));
            }
            from += run.len();
        }
    }
    runs
}

/// Where ranges begin, as dots along time: a line for as long as a boundary is there.
fn boundaries(svg: &mut Svg, picture: &Picture, panel: Panel) {
    let mut path = String::new();
    for (from, to, place) in super::owners::boundaries(&picture.frames) {
        let y = panel.y(place);
        path += &format!("M{} {y}H{}", panel.x(from), panel.x(to));
    }
    let style = "stroke-dasharray=\"1.2 5\" opacity=\"0.9\"";
    svg.stroke("#8fb4ff", 0.9, style, &path);
}

/// What is forecast, behind a line that is now.
fn ahead(svg: &mut Svg, picture: &Picture, panel: Panel, scale: &Scale) {
    let Some(ahead) = picture.ahead.as_ref().filter(|it| 0 < it.ticks) else { return };
    let all: u64 = picture.frames.iter().flat_map(|it| &it.heat).sum();
    let mean = all as f64 / picture.frames.len().max(1) as f64;
    let (left, right) = (panel.x(panel.frames), LEFT + ACROSS);
    for (i, (start, load)) in ahead.ranges.iter().enumerate() {
        let end = ahead.ranges.get(i + 1).map_or(1.0, |it| it.0);
        let density = *load as f64 / mean.max(f64::MIN_POSITIVE) / (end - start).max(1e-9);
        let (mut path, top) = (String::new(), panel.y(end));
        add_rect(&mut path, [left, top], [right - left, panel.y(*start) - top]);
        svg.fill(&colour::heat(scale.part(density)), &path);
    }
    svg.raw(
        "<defs><pattern id=\"ahead\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><path d=\"M0 0v6\" stroke=\"#fff\" stroke-width=\"1.6\" \
         opacity=\"0.55\"/></pattern></defs>",
    );
    let mut path = String::new();
    add_rect(&mut path, [left, panel.top], [right - left, panel.height]);
    svg.fill("url(#ahead)", &path);
    svg.stroke("#fff", 1.5, "", &format!("M{left} {}v{}", panel.top, panel.height));
}

/// The scale of the shades, at the right.
fn bar(svg: &mut Svg, panel: Panel, scale: &Scale) {
    let left = LEFT + ACROSS + 14;
    let y = |part: f64| panel.bottom() - (part * panel.height as f64).round() as i64;
    for shade in 0..SHADES {
        let [low, high] = [shade, shade + 1].map(|it| y(it as f64 / SHADES as f64));
        let mut path = String::new();
        add_rect(&mut path, [left, high], [10, low - high]);
        svg.fill(&colour::heat(shade as f64 / (SHADES - 1) as f64), &path);
    }
    let outline = format!("M{left} {}h10v{}h-10z", panel.top, panel.height);
    svg.stroke("#000", 0.8, "", &outline);
    let low = scale.high / SPAN;
    let decades = (-3..6).flat_map(|it| [1.0, 3.0].map(|step| step * 10_f64.powi(it)));
    let marks = decades.filter(|it| low * 1.15 < *it && *it < scale.high * 0.85);
    for mark in marks.chain([low, scale.high]) {
        let y = y(scale.part(mark));
        svg.stroke("#000", 0.8, "", &format!("M{} {y}h3", left + 10));
        let digits = if mark < 0.095 { 2 } else { usize::from(mark < 0.95) };
        let text = format!("{mark:.digits$}");
        svg.text([(left + 15) as f64, (y + 4) as f64], Anchor::Start, 11, &text);
    }
    let middle = (panel.top + panel.height / 2) as f64;
    svg.upward([(left + 50) as f64, middle], "load ÷ mean load");
}

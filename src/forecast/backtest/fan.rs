//! Draws forecasts over what came, as SVG: the intervals as bands, the median and the truth as lines.

use std::fmt::Write as _;

use dataflows::forecast::{Q50, Q90, Q95};

use super::Trail;
use crate::svg::{Anchor, Svg, axis};

const WIDTH: i64 = 900;
const LEFT: f64 = 70.0;
const ACROSS: f64 = 800.0;
const HEIGHT: f64 = 130.0;
/// Above a chart, for its title, and below it, for its axis.
const ABOVE: f64 = 30.0;
const BELOW: f64 = 34.0;
/// Index of the levels .05 and .1.
const Q05: usize = 0;
const Q10: usize = 1;

const OUTER: &str = "#c6dbef";
const INNER: &str = "#6baed6";
const MEDIAN: &str = "#08519c";

/// The picture of some trails, one below the other.
pub fn picture(trails: &[Trail]) -> String {
    let each = ABOVE + HEIGHT + BELOW;
    let height = (trails.len() as f64 * each).ceil() as i64 + 10;
    let mut svg = Svg::new(WIDTH, height, "Forecasts over what came");
    for (at, trail) in trails.iter().enumerate() {
        chart(&mut svg, trail, at as f64 * each + ABOVE);
    }
    svg.end()
}

fn chart(svg: &mut Svg, trail: &Trail, top: f64) {
    let n = trail.points.len().max(1) as f64;
    let peaks = trail.points.iter().map(|it| it.came.max(it.fan[Q95]));
    let high = axis::rounded_up(f64::from(peaks.fold(1.0, f32::max)));
    let x = |at: usize| LEFT + (at as f64 + 0.5) / n * ACROSS;
    let y = |load: f32| top + HEIGHT - (f64::from(load) / high).clamp(0.0, 1.0) * HEIGHT;
    let what = match trail.target {
        "h1" => "the next bin",
        "mean30" => "the mean of the next thirty bins",
        other => other,
    };
    let title = format!(
        "{}, range {}, {}: {what}. Black: what came; blue: median, 80 % and 90 % of what was said",
        trail.panel, trail.range, trail.op
    );
    svg.text([LEFT, top - 9.0], Anchor::Start, 11, &title);
    for (colour, low, upper) in [(OUTER, Q05, Q95), (INNER, Q10, Q90)] {
        let edge = |level: usize| {
            let points = trail.points.iter().enumerate();
            points.map(move |(at, it)| [x(at), y(it.fan[level])])
        };
        let path = line(edge(upper).chain(edge(low).collect::<Vec<_>>().into_iter().rev()));
        svg.raw(&format!("<path fill=\"{colour}\" d=\"{path}Z\"/>"));
    }
    let points = || trail.points.iter().enumerate();
    let median = line(points().map(|(at, it)| [x(at), y(it.fan[Q50])]));
    svg.stroke(MEDIAN, 1.2, "", &median);
    let truth = line(points().map(|(at, it)| [x(at), y(it.came)]));
    svg.stroke("#000", 0.9, "stroke-linejoin=\"round\"", &truth);
    svg.stroke("#000", 1.0, "", &format!("M{LEFT} {top}h{ACROSS}v{HEIGHT}h-{ACROSS}z"));
    for load in axis::marks(0.0, high, 4) {
        svg.text([LEFT - 6.0, y(load as f32) + 4.0], Anchor::End, 11, &axis::told(load));
    }
    let bottom = top + HEIGHT;
    for at in axis::marks(0.0, n, 10).into_iter().filter(|it| *it < n) {
        let place = [LEFT + at / n * ACROSS, bottom + 14.0];
        svg.stroke("#000", 1.0, "", &format!("M{:.1} {bottom}v4", place[0]));
        svg.text(place, Anchor::Middle, 11, &axis::told(trail.first as f64 + at));
    }
    let bin = axis::told(trail.bin_ms as f64 / 1e3);
    let place = [LEFT + ACROSS / 2.0, bottom + 28.0];
    svg.text(place, Anchor::Middle, 11, &format!("bin, of {bin} s; operations a bin upwards"));
}

/// A path through points.
fn line(points: impl Iterator<Item = [f64; 2]>) -> String {
    points.fold(String::new(), |mut path, [x, y]| {
        let to = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{to}{x:.1} {y:.1}").expect("a string takes all that is written");
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::backtest::{Op, Point};

    fn trail(points: Vec<Point>) -> Trail {
        Trail {
            panel: "a<b".into(),
            range: 3,
            op: Op::Read,
            target: "h1",
            bin_ms: 10_000,
            first: 450,
            points,
        }
    }

    #[test]
    fn bands_and_lines_lie_where_their_loads_are() {
        // The scale ends at 100: 130 pixels up from 160.
        let fan = [10.0, 20.0, 40.0, 50.0, 60.0, 80.0, 90.0, 100.0];
        let two = [Point { fan, came: 50.0 }, Point { fan, came: 0.0 }];
        let svg = picture(&[trail(two.to_vec())]);
        for path in [
            "d=\"M270.0 43.0L670.0 43.0L670.0 147.0L270.0 147.0Z\"",
            "d=\"M270.0 95.0L670.0 160.0\"",
        ] {
            assert!(svg.contains(path), "{path} in {svg}");
        }
        assert!(
            svg.contains("a&lt;b, range 3, read: the next bin") && svg.contains(">450<"),
            "{svg}"
        );
    }

    #[test]
    fn nothing_and_no_load_are_drawn_too() {
        let none = Point { fan: [0.0; 8], came: 0.0 };
        for points in [Vec::new(), vec![none; 5]] {
            let svg = picture(&[trail(points)]);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }
}

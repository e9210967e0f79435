//! Writes the few shapes of SVG that a picture needs.
//!
//! A drawing library writes an element of some hundred bytes for each rectangle; here all rectangles of a
//! colour are one path, of a dozen bytes each, so that heat over many ticks stays below a megabyte.

pub mod axis;

use std::fmt::Write as _;

/// A picture under way.
#[derive(Clone, Debug)]
pub struct Svg {
    text: String,
}

/// Where a text is relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub fn new(width: i64, height: i64, title: &str) -> Self {
        let title = escaped(title);
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" \
             font-family=\"DejaVu Sans, Verdana, Helvetica, sans-serif\" font-size=\"11\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        );
        Self { text }
    }

    pub fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    /// A text; `size` in pixels.
    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, size: u32, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.line(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
        ));
    }

    /// A text that runs upwards, centred on its point.
    pub fn upward(&mut self, [x, y]: [f64; 2], text: &str) {
        let text = escaped(text);
        self.line(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    /// A path of one fill, in whole pixels and without smoothed edges, so that no seam shows.
    pub fn fill(&mut self, colour: &str, path: &str) {
        if !path.is_empty() {
            self.line(format_args!(
                "<path fill=\"{colour}\" shape-rendering=\"crispEdges\" d=\"{path}\"/>"
            ));
        }
    }

    /// A path of one stroke; `style` adds attributes.
    pub fn stroke(&mut self, colour: &str, width: f64, style: &str, path: &str) {
        if !path.is_empty() {
            self.line(format_args!(
                "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" {style} d=\"{path}\"/>"
            ));
        }
    }

    pub fn circle(&mut self, [x, y]: [f64; 2], radius: f64) {
        self.line(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"));
    }

    /// Opens a group with attributes; closed by [`Svg::close`].
    pub fn open(&mut self, attributes: &str) {
        self.line(format_args!("<g {attributes}>"));
    }

    pub fn close(&mut self) {
        self.line(format_args!("</g>"));
    }

    /// An element as it is.
    pub fn raw(&mut self, element: &str) {
        self.line(format_args!("{element}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes all that is written");
    }
}

/// Adds a rectangle in whole pixels to a path.
pub fn add_rect(path: &mut String, [x, y]: [i64; 2], [width, height]: [i64; 2]) {
    write!(path, "M{x} {y}h{width}v{height}h-{width}z")
        .expect("a string takes all that is written");
}

fn escaped(text: &str) -> String {
    // Control characters are not allowed in XML at all.
    let shown = |it: &char| !it.is_control();
    text.chars().filter(shown).fold(String::new(), |mut text, it| {
        match it {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_picture() {
        let mut svg = Svg::new(10, 10, "a<b & \"c\"\u{7}");
        svg.text([1.0, 2.0], Anchor::End, 9, "</text><script>");
        let text = svg.end();
        assert!(text.contains("<title>a&lt;b &amp; &quot;c&quot;</title>"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
    }
}

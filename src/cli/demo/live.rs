//! Shows a run while it goes on: a view on a terminal, else a line now and then, on standard error.
//!
//! ```text
//!  migration_status, node_capacity ──> follower ──> course ──┐
//!  latencies of the load ────────────────────────────────────┴─> view, five times a second
//! ```

use std::io::{IsTerminal, Stderr, stderr};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::{Terminal, widgets::Paragraph};
use schemas::Millis;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::node_capacity::NodeCapacity;
use schemas::wire::{Record as _, decode};

use super::cluster::{Cluster, Shared};
use crate::cli::signals::Signals;
use crate::demo::view::{self, Figures, Tone};
use crate::kafka::follow::{Follower, From};
use crate::kafka::{Connection, wall_clock};
use crate::load::driver::{Status as LoadStatus, Watch};
use crate::replay::plot::KeyAxis;
use crate::telemetry::is_coloured;

/// Where there is no terminal, a line so often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is shown.
pub struct Shown<'a> {
    pub course: &'a Shared,
    pub axis: &'a KeyAxis,
    pub title: String,
}

/// Follows a run, and shows it.
pub struct Live<'a> {
    shown: Shown<'a>,
    follower: Follower,
    cluster: &'a Cluster,
    signals: &'a Signals,
    figures: Figures,
    screen: Option<Screen>,
    said: Instant,
    /// When the load began.
    pub begun: Option<Millis>,
    /// How long it has gone on, or a little longer.
    pub played_for: Duration,
    failed: Option<anyhow::Error>,
}

impl<'a> Live<'a> {
    pub fn begin(
        shown: Shown<'a>,
        connection: &Connection,
        cluster: &'a Cluster,
        signals: &'a Signals,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let mut follower = Follower::open(connection, "demo")?;
        let mut ids = follower.partitions(MigrationStatus::TOPIC)?;
        ids.extend(follower.partitions(NodeCapacity::TOPIC)?);
        follower.add(ids.into_iter().map(|at| (at, From::Beginning)))?;
        let figures = Figures {
            title: shown.title.clone(),
            duration_s: duration.as_secs(),
            ..Figures::default()
        };
        let screen = stderr().is_terminal().then(Screen::begin).transpose()?;
        if screen.is_none() {
            eprintln!("isotherm demo · {}", figures.title);
        }
        let said = Instant::now();
        Ok(Self {
            shown,
            follower,
            cluster,
            signals,
            figures,
            screen,
            said,
            begun: None,
            played_for: Duration::ZERO,
            failed: None,
        })
    }

    /// Takes in what has come, and shows how it is now.
    pub fn look(&mut self) {
        if let Err(err) = self.take() {
            self.failed.get_or_insert(err);
        }
        self.figures.now = wall_clock();
        let course = self.shown.course.lock();
        match &mut self.screen {
            Some(screen) => screen.draw(&view::lines(&course, self.shown.axis, &self.figures)),
            None if LINE_EVERY <= self.said.elapsed() => {
                self.said = Instant::now();
                eprintln!("{}", view::summary(&course, &self.figures));
            }
            None => (),
        }
    }

    fn take(&mut self) -> anyhow::Result<()> {
        while let Some(record) = self.follower.poll(Duration::ZERO)? {
            let Some(value) = &record.value else { continue };
            let mut course = self.shown.course.lock();
            if record.at.topic == NodeCapacity::TOPIC {
                // What cannot be read, the planner tells of.
                if let Ok(report) = decode::<NodeCapacity>(value) {
                    course.reported(&report);
                }
            } else if let Ok(status) = decode::<MigrationStatus>(value) {
                course.told(record.stamp, &status);
                let ends = matches!(status.status, Status::Complete | Status::Failed);
                let moved = course.moves.get(&status.migration).filter(|_| ends);
                if let (Some(moved), None) = (moved, &self.screen) {
                    eprintln!("  {}", view::told(&status.migration.to_string(), moved));
                }
            }
        }
        Ok(())
    }

    /// Says that no load is played any more.
    pub fn over(&mut self) {
        self.figures.is_over = true;
        self.look();
    }

    /// Leaves the terminal as it was.
    ///
    /// # Errors
    /// What has kept it from following the run to its end.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.look();
        self.screen = None;
        self.failed.take().map_or(Ok(()), Err).context("follow the run")
    }
}

impl Watch for Live<'_> {
    fn told(&mut self, status: &LoadStatus) {
        self.played_for = status.since_start;
        let since_start_ms = status.since_start.as_millis() as u64;
        self.begun.get_or_insert_with(|| Millis(wall_clock().0.saturating_sub(since_start_ms)));
        let recent = &status.recent;
        let latency = recent.answered();
        let ms = |part| latency.quantile(part).unwrap_or_default() as f64 / 1e3;
        self.figures.elapsed_s = status.since_start.as_secs();
        self.figures.queries_per_s = status.per_s(latency.count());
        self.figures.updates_per_s = status.per_s(recent.updates.count());
        (self.figures.p50_ms, self.figures.p99_ms) = (ms(0.5), ms(0.99));
        self.figures.failed = status.all.reads_failed();
        self.look();
    }

    fn is_stopping(&self) -> bool {
        self.signals.is_asked() || self.failed.is_some() || self.cluster.has_ended()
    }
}

/// A terminal of which all is taken, until this is dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    is_coloured: bool,
}

impl Screen {
    fn begin() -> anyhow::Result<Self> {
        execute!(stderr(), EnterAlternateScreen, Hide).context("take the terminal")?;
        let terminal =
            Terminal::new(CrosstermBackend::new(stderr())).context("take the terminal")?;
        Ok(Self { terminal, is_coloured: is_coloured(true) })
    }

    fn draw(&mut self, lines: &[view::Line]) {
        let style = |tone: Tone| match self.is_coloured {
            true => style_of(tone),
            false => Style::new(),
        };
        let lines = lines.iter().map(|line| {
            let span = |(tone, text): &(Tone, String)| Span::styled(text.clone(), style(*tone));
            Line::from(line.iter().map(span).collect::<Vec<_>>())
        });
        let text = Text::from(lines.collect::<Vec<_>>());
        // A terminal that cannot be drawn on is no reason to end a run.
        _ = self.terminal.draw(|frame| frame.render_widget(Paragraph::new(text), frame.area()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        _ = execute!(stderr(), LeaveAlternateScreen, Show);
    }
}

/// Colours that those can tell apart who do not see red and green.
fn style_of(tone: Tone) -> Style {
    const NODES: [Color; 8] = [
        Color::Rgb(0, 114, 178),
        Color::Rgb(230, 159, 0),
        Color::Rgb(0, 158, 115),
        Color::Rgb(204, 121, 167),
        Color::Rgb(86, 180, 233),
        Color::Rgb(213, 94, 0),
        Color::Rgb(240, 228, 66),
        Color::Rgb(150, 150, 150),
    ];
    match tone {
        Tone::Plain => Style::new(),
        Tone::Faint => Style::new().fg(Color::DarkGray),
        Tone::Cool => Style::new().fg(NODES[4]),
        Tone::Warm => Style::new().fg(NODES[1]),
        Tone::Hot => Style::new().fg(NODES[5]),
        Tone::Node(number) => Style::new().fg(NODES[number % NODES.len()]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::anyhow;
    use dataflows::balance::Likely;
    use dataflows::tally::Costs;

    use super::*;
    use crate::demo::course::Course;
    use crate::kafka::embedded::Embedded;
    use crate::replay::history::Recount;

    #[test]
    fn run_that_could_not_be_followed_ends_its_load_and_says_why_at_its_end() {
        let topics = [MigrationStatus::TOPIC, NodeCapacity::TOPIC].map(|it| (it.to_owned(), 1));
        let broker = Embedded::start(&topics).unwrap();
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes = BTreeMap::from([(schemas::NodeId("n1".into()), 1)]);
        let recount = Recount::new(Vec::new(), nodes.clone(), &[], costs, 1_000);
        let course = Shared::new(Course::new(recount, nodes, Likely::Mean));
        let (cluster, signals) = (Cluster::new(None), Signals::default());
        let axis = KeyAxis::Integers(0, 1);
        let mut live = Live {
            shown: Shown { course: &course, axis: &axis, title: String::new() },
            follower: Follower::open(&broker.connection(), "demo").unwrap(),
            cluster: &cluster,
            signals: &signals,
            figures: Figures::default(),
            screen: None,
            said: Instant::now(),
            begun: None,
            played_for: Duration::ZERO,
            failed: None,
        };
        live.look();
        assert!(!live.is_stopping());
        live.failed = Some(anyhow!("the topic is gone"));
        live.look();
        assert!(live.is_stopping());
        let error = format!("{:#}", live.end().unwrap_err());
        assert_eq!(error, "follow the run: the topic is gone");
    }
}

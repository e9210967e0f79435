//! Moves a range by hand: asks the planner, and follows what comes of it.
//!
//! ```text
//!  RANGE, --to ──> operator_command ──> planner ──> plan: begun, or refused and why
//!                                          └──────> migration_status: copying … complete
//! ```
//!
//! Nothing is lost by not waiting: the planner goes on, and `isotherm range list` shows where.

mod course;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use schemas::NodeId;
use schemas::migration_status::MigrationStatus;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::Planned;
use schemas::wire::{Record as _, decode};
use tracing::warn;

use super::ask::{LOOK_EVERY, ask, command};
use super::exit::{Exit, Fault, need_cluster};
use super::index::{self, text_of};
use super::print;
use super::signals::Signals;
use super::within::Within;
use crate::assignment::map::span_of;
use crate::config::Config;
use crate::kafka::follow::{Follower, From};
use crate::kafka::{Connection, Record, wall_clock};
use course::{Course, News};

/// A destination tells each second how much has come; who hears nothing for so long is told where to look.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub struct MoveArgs {
    /// As `isotherm range list` prints it, or its first key
    pub range: String,
    /// The node that is to have it
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Why; plans and the log tell it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Say what would be asked, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it is over, and tell how it goes
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "5m")]
    pub timeout: Duration,
}

pub fn run(config: &Config, args: &MoveArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let (connection, within) = (&config.kafka, Within::new(args.timeout));
    let known = within.ask({
        let connection = connection.clone();
        move || Ok((index::map(&connection)?.1, index::nodes(&connection)?))
    });
    let Some((map, nodes)) = known? else { return Err(within.unheard(connection)) };
    let range = index::found(&map, &args.range)?;
    let (span, to) = (span_of(range), NodeId(args.to.clone()));
    if !nodes.contains_key(&to) {
        let known: Vec<_> = nodes.keys().map(|it| it.0.as_str()).collect();
        let what = format!("no node `{to}` has ever reported");
        let remedy = format!("those that have: {}", known.join(", "));
        let fault = Fault::new(Exit::Refused, "isotherm::move::unknown_node", what);
        return Err(Box::new(fault.remedy(remedy)));
    }
    if range.node == to {
        let what = format!("{} is on {to} already", text_of(&span));
        return Err(Box::new(Fault::new(Exit::Stale, "isotherm::move::already_there", what)));
    }
    let what = format!("{} of epoch {} from {} to {to}", text_of(&span), range.epoch.0, range.node);
    if args.dry_run {
        print(&format!("would ask to move {what}\n"))?;
        return Ok(Exit::Done);
    }
    let command = OperatorCommand {
        node: Some(to),
        range_start: Some(span.start),
        range_end: Some(span.end),
        ..command(Command::Move, &args.reason)
    };
    let id = command.id.clone();
    if !args.wait {
        asked(&within, connection, command)?;
        print(&format!("asked as {id} to move {what}\n"))?;
        eprintln!("the planner answers with its next tick: isotherm plan show latest");
        return Ok(Exit::Done);
    }
    // From before it is asked on, so that no answer is missed.
    let followed = within.ask({
        let connection = connection.clone();
        move || followed(&connection)
    });
    let Some(mut follower) = followed? else { return Err(within.unheard(connection)) };
    let signals = Signals::begin()?;
    asked(&within, connection, command)?;
    eprintln!("asked as {id} to move {what}");
    wait(&mut follower, Course::new(id), &within, &signals)
}

fn asked(
    within: &Within,
    connection: &Connection,
    command: OperatorCommand,
) -> Result<(), Box<Fault>> {
    let asked = within.ask({
        let connection = connection.clone();
        move || ask(&connection, &command)
    });
    asked?.ok_or_else(|| within.unheard(connection))
}

/// Follows what there will be of plans and migrations.
fn followed(connection: &Connection) -> anyhow::Result<Follower> {
    let mut follower = Follower::open(connection, "move")?;
    for topic in [Planned::TOPIC, MigrationStatus::TOPIC] {
        let partitions = follower.partitions(topic)?;
        follower.add(partitions.into_iter().map(|it| (it, From::End)))?;
    }
    Ok(follower)
}

/// Follows the move to its end, the timeout, or a signal.
fn wait(
    follower: &mut Follower,
    mut course: Course,
    within: &Within,
    signals: &Signals,
) -> Result<Exit, Box<Fault>> {
    let bar = bar();
    let say = |text: &str| match bar.is_hidden() {
        true => eprintln!("{text}"),
        false => bar.println(text),
    };
    let (mut heard, mut is_silent) = (Instant::now(), false);
    loop {
        if SILENCE <= heard.elapsed() && !std::mem::replace(&mut is_silent, true) {
            say(
                "nothing was heard of it for a while: `isotherm node list` tells which nodes are silent",
            );
        }
        let left = within.left();
        if left.is_zero() || signals.is_asked() {
            bar.finish_and_clear();
            return Ok(detached(&course, signals.is_asked()));
        }
        let Some(record) = follower.poll(left.min(LOOK_EVERY))? else { continue };
        let (bytes, news) = (course.bytes, taken(&mut course, &record));
        if !news.is_empty() || course.bytes != bytes {
            (heard, is_silent) = (Instant::now(), false);
        }
        for news in news {
            match news {
                News::Step(text) => say(&text),
                News::End(exit, text) => {
                    bar.finish_and_clear();
                    if exit == Exit::Done {
                        print(&format!("{text}\n"))?;
                    } else {
                        eprintln!("{text}");
                    }
                    return Ok(exit);
                }
            }
        }
        bar.set_length(course.bytes_total);
        bar.set_position(course.bytes);
        bar.set_message(course.rate(wall_clock()));
    }
}

fn taken(course: &mut Course, record: &Record) -> Vec<News> {
    let Some(value) = &record.value else { return Vec::new() };
    let passed_over = |err| warn!(at = %record.at, offset = record.offset, %err, "passed over");
    match record.at.topic {
        Planned::TOPIC => match decode::<Planned>(value) {
            Ok(plan) => return course.planned(&plan),
            Err(err) => passed_over(err),
        },
        _ => match decode::<MigrationStatus>(value) {
            Ok(status) => return course.told(record.stamp, &status).into_iter().collect(),
            Err(err) => passed_over(err),
        },
    }
    Vec::new()
}

fn detached(course: &Course, is_asked: bool) -> Exit {
    let why = if is_asked { "no longer waits" } else { "the time is up" };
    match course.migration() {
        Some(id) => eprintln!("{why}: {id} goes on; look again with `isotherm range list`"),
        None if is_asked => {
            eprintln!("{why}: the planner answers with its next tick: `isotherm plan show latest`");
        }
        None => eprintln!(
            "{why}, and no planner has answered: it does so with its next tick, if one runs (/readyz?verbose of it tells)"
        ),
    }
    // Whichever it was: the move is not over.
    Exit::TimedOut
}

fn bar() -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let style = "{bar:40} {bytes}/{total_bytes}  {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar
}

//! Reads plans back, and tells them.

use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use schemas::plan::Planned;
use schemas::wire::{Record as _, decode};
use serde_json::json;
use tracing::warn;

use super::args::{Moment, moment};
use super::columns::columns;
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use super::tail::start;
use super::{Form, print, records, told};
use crate::config::Config;
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};

/// Stands for the id of the newest plan.
const LATEST: &str = "latest";

#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// A line for each plan
    List(ListArgs),
    /// Tell a plan: why, what was chosen, what was not
    Show(ShowArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Begin there: beginning, -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", default_value = "beginning", allow_hyphen_values = true)]
    pub from: Moment,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Such as p-212; or latest
    pub id: String,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    pub key_format: KeyFormat,
}

pub fn run(config: &Config, command: &PlanCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    match command {
        PlanCommand::List(args) => {
            let mut plans = Vec::new();
            read(&config.kafka, start(args.from), |plan| plans.push(plan))?;
            print(&listed(&plans, args.output))?;
        }
        PlanCommand::Show(args) => {
            let plan = found(&config.kafka, &args.id)?;
            print(&shown(&plan, args.output, args.key_format))?;
        }
    }
    Ok(Exit::Done)
}

/// Shows every plan from `start` on. What is none is passed over, and told in the log.
fn read(
    connection: &Connection,
    start: Start,
    mut each: impl FnMut(Planned),
) -> anyhow::Result<()> {
    scan(connection, Planned::TOPIC, start, |record| {
        match record.value.as_deref().map(decode::<Planned>) {
            Some(Ok(plan)) => each(plan),
            Some(Err(err)) => {
                warn!(at = %record.at, offset = record.offset, %err, "passed over what is no plan");
            }
            None => (),
        }
        ControlFlow::Continue(())
    })
}

/// Returns the newest plan of that id, or the newest of all.
pub fn found(connection: &Connection, id: &str) -> Result<Planned, Box<Fault>> {
    let mut newest: Option<Planned> = None;
    let mut count = 0_u64;
    read(connection, Start::Beginning, |plan| {
        count += 1;
        let is_newer = newest.as_ref().is_none_or(|it| it.tick <= plan.tick);
        if (id == LATEST || id == plan.plan) && is_newer {
            newest = Some(plan);
        }
    })?;
    newest.ok_or_else(|| {
        let topic = connection.topic(Planned::TOPIC);
        let (what, remedy) = match count {
            0 => (
                format!("the topic {topic} has no plan yet"),
                "a planner writes one when a node is or will be too warm; it must be running",
            ),
            n => (
                format!("none of the {n} plans on the topic {topic} is `{id}`"),
                "`isotherm plan list` shows those that there are, and `latest` is the newest",
            ),
        };
        Box::new(Fault::new(Exit::Failed, "isotherm::plan::unknown", what).remedy(remedy))
    })
}

/// Returns a line for each plan, in the order in which they were made.
pub fn listed(plans: &[Planned], form: Form) -> String {
    let value = |it: &Planned| {
        json!({
            "plan": it.plan,
            "tick": it.tick,
            "tick_start_ms": it.tick_start_ms,
            "mode": it.mode,
            "moves": it.moves.len(),
            "splits": it.splits.len(),
            "joins": it.joins.len(),
            "rebuilds": it.rebuilds.len(),
            "rejected": it.rejected.len(),
            "why": told::phrase(it),
            "digest": it.digest,
        })
    };
    match form {
        Form::Table => {
            let row = |it: &Planned| {
                let [moves, splits, joins, rejected] =
                    [it.moves.len(), it.splits.len(), it.joins.len(), it.rejected.len()]
                        .map(|it| it.to_string());
                let (time, why) = (told::moment(it.tick_start_ms), told::phrase(it));
                [it.plan.clone(), time, it.mode.clone(), moves, splits, joins, rejected, why]
            };
            let header = ["PLAN", "TICK", "MODE", "MOVES", "SPLITS", "JOINS", "REJECTED", "WHY"];
            columns(header, &plans.iter().map(row).collect::<Vec<_>>())
        }
        Form::Json => format!("{:#}\n", json!(plans.iter().map(value).collect::<Vec<_>>())),
        Form::Jsonl => plans.iter().map(|it| format!("{}\n", value(it))).collect(),
    }
}

fn shown(plan: &Planned, form: Form, keys: KeyFormat) -> String {
    let line = || records::json(plan, keys);
    match form {
        Form::Table => told::told(plan, keys),
        Form::Json => match serde_json::from_str::<serde_json::Value>(&line()) {
            Ok(value) => format!("{value:#}\n"),
            Err(_) => line() + "\n",
        },
        Form::Jsonl => line() + "\n",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn list_has_a_line_for_each_plan() {
        let mut plans = vec![told::tests::plan(), told::tests::plan()];
        plans[1].plan = "p-1212".into();
        plans[1].rejected.clear();
        expect![[r#"
            PLAN    TICK                 MODE  MOVES  SPLITS  JOINS  REJECTED  WHY
            p-212   2026-09-21 14:23:05  auto  1      1       1      6         n2 is too warm in 22 ticks
            p-1212  2026-09-21 14:23:05  auto  1      1       1      0         n2 is too warm in 22 ticks
        "#]].assert_eq(&listed(&plans, Form::Table));
        expect![[r#"
            {"digest":"5f1c01234567","joins":1,"mode":"auto","moves":1,"plan":"p-212","rebuilds":0,"rejected":6,"splits":1,"tick":41,"tick_start_ms":1790000585000,"why":"n2 is too warm in 22 ticks"}
        "#]].assert_eq(&listed(&plans[..1], Form::Jsonl));
        assert_eq!(listed(&[], Form::Json), "[]\n");
    }

    #[test]
    fn plan_is_shown_as_text_and_as_json_with_its_keys_as_text() {
        let plan = told::tests::plan();
        assert_eq!(shown(&plan, Form::Table, KeyFormat::Auto), told::told(&plan, KeyFormat::Auto));
        let [pretty, line] = [Form::Json, Form::Jsonl].map(|it| shown(&plan, it, KeyFormat::Hex));
        assert_eq!((line.lines().count(), line.ends_with("}\n")), (1, true));
        let [pretty, line] =
            [pretty, line].map(|it| serde_json::from_str::<serde_json::Value>(&it).unwrap());
        assert_eq!(pretty, line);
        assert_eq!(pretty["moves"][0]["range_start"], "6b20302e323238");
    }
}

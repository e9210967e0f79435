//! Says what came out of a replay: for programs as JSON, for people as a table.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets};
use schemas::NodeId;
use serde::{Deserialize, Serialize};

use super::foresight::Forecast;
use super::history::SETTLED_TICKS;
use super::leads::Leads;

/// What came out of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was replayed: the scenario, the trace or the topic, by name.
    pub source: String,
    pub seed: Option<u64>,
    pub tick_ms: u64,
    /// Capacities in `cost_us` per second.
    pub nodes: BTreeMap<NodeId, u64>,
    pub nodes_from: NodesFrom,
    pub ticks: u64,
    /// Records of the query log.
    pub records: u64,
    pub queries: u64,
    /// Queries that came after their tick.
    pub late: u64,
    /// Records that could not be used.
    pub dead: u64,
    pub dead_by_reason: BTreeMap<String, u64>,
    pub overload_node_seconds: Overload,
    pub overload_settled: Settled,
    pub moves: u64,
    pub splits: u64,
    pub joins: u64,
    pub ranges: u64,
    pub bytes_moved: u64,
    /// All bytes that there are, to compare with.
    pub bytes: u64,
    /// Of the load, what no split can help: from 0 to 1.
    pub unsplittable_share: f64,
    /// Digest of all plans in their order, hexadecimal.
    pub plan_digest: String,
    pub lead: Leads,
    pub forecast: Forecast,
}

/// Who says which nodes there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodesFrom {
    /// Nobody: they follow from the load.
    #[default]
    Default,
    Stated,
    NodeCapacity,
}

/// The overload area of four ways to run the same log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overload {
    /// The first assignment, kept.
    pub first: f64,
    /// The best static assignment, known afterwards; none with more than six nodes.
    pub hindsight: Option<f64>,
    /// Persistence in place of the forecast; none if it was not run.
    pub reactive: Option<f64>,
    pub isotherm: f64,
}

/// Node-seconds of the ticks from [`SETTLED_TICKS`] on; `None`: there was none, or it was not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Persistence in place of the forecast.
    pub reactive: Option<f64>,
    pub isotherm: Option<f64>,
}

/// Where a table is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    /// With lines, for a terminal.
    Ruled,
    /// Columns and blanks alone, for pipes and files.
    Plain,
}

impl Report {
    /// The end of the run as a person reads it; every line ends with a line feed.
    pub fn table(&self, paper: Paper) -> String {
        let mut areas = empty(paper);
        areas.set_header(["overload area", "node-seconds", "÷ first"]);
        let overload = &self.overload_node_seconds;
        let rows = [
            ("first assignment, kept", Some(overload.first)),
            ("best static one, in hindsight", overload.hindsight),
            ("reactive (last tick for a forecast)", overload.reactive),
            ("isotherm", Some(overload.isotherm)),
        ];
        for (name, area) in rows {
            let ratio = area.filter(|_| 0.0 < overload.first).map(|it| it / overload.first);
            let told = |it: Option<f64>, digits| {
                it.map_or_else(|| "–".to_owned(), |it| format!("{it:.digits$}"))
            };
            areas.add_row([Cell::new(name), right(told(area, 1)), right(told(ratio, 3))]);
        }
        let mut facts = empty(paper);
        for (name, fact) in self.facts() {
            facts.add_row([name.to_owned(), fact]);
        }
        let lines = |table: Table| {
            // Without lines, what pads the first column is no use.
            let told = |line: String| match paper {
                Paper::Ruled => line,
                Paper::Plain => line.trim().to_owned(),
            };
            table.lines().fold(String::new(), |text, line| text + &told(line) + "\n")
        };
        format!("{}\n{}", lines(areas), lines(facts))
    }

    fn reasons(&self) -> String {
        let told = |(reason, n): (&String, &u64)| format!("{} {reason}", grouped(*n));
        let all: Vec<_> = self.dead_by_reason.iter().map(told).collect();
        all.join(", ")
    }

    fn nodes_told(&self) -> String {
        let from = match self.nodes_from {
            NodesFrom::Default => "assumed from the load",
            NodesFrom::Stated => "as stated",
            NodesFrom::NodeCapacity => "from node_capacity",
        };
        let each = match self.nodes.len() {
            0..=NODES_TOLD_MAX => {
                let told = self.nodes.iter().map(|(it, us)| format!("{} {}", it.0, grouped(*us)));
                told.collect::<Vec<_>>().join(", ")
            }
            n => format!("{n} with {}", grouped(self.nodes.values().sum())),
        };
        format!("{each} µs of service a second, {from}")
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let of_all = match self.bytes {
            0 => String::new(),
            bytes => format!(", {:.2} times the data", self.bytes_moved as f64 / bytes as f64),
        };
        let seed = self.seed.map_or_else(String::new, |it| format!(", seed {it}"));
        let records = format!(
            "{} records, {} queries; {} late, {} dead",
            grouped(self.records),
            grouped(self.queries),
            grouped(self.late),
            grouped(self.dead)
        );
        let changes = format!(
            "{}, {}, {}; {} at the end",
            counted(self.moves, "move"),
            counted(self.splits, "split"),
            counted(self.joins, "join"),
            counted(self.ranges, "range")
        );
        // What is meant is asked only where there is some.
        let kinds = if 0.0005 <= self.unsplittable_share {
            ": one key, or an edge that goes on"
        } else {
            ""
        };
        let dead = Some(("dead", self.reasons())).filter(|it| !it.1.is_empty());
        let first = [
            (
                "replayed",
                format!("{}{seed}: {} ticks of {} ms", self.source, self.ticks, self.tick_ms),
            ),
            ("nodes", self.nodes_told()),
            ("read", records),
        ];
        let lead = (0 < self.moves).then(|| ("leads", self.lead.told()));
        let settled = self.overload_settled.isotherm.map(|it| {
            let reactive = self.overload_settled.reactive;
            let other = reactive.map_or_else(String::new, |it| format!("; reactive {it:.1}"));
            ("settled", format!("{it:.1} node-seconds from tick {SETTLED_TICKS} on{other}"))
        });
        let rest = [
            ("done", changes),
            ("moved", format!("{}{of_all}", sized(self.bytes_moved))),
            (
                "unsplittable",
                format!("{:.1} % of the load{kinds}", self.unsplittable_share * 100.0),
            ),
            ("plans", format!("digest {}", self.plan_digest)),
        ];
        let deciders = self.forecast.deciders().map(|it| ("decided", it));
        let ahead = [settled, Some(("forecast", self.forecast.told())), deciders, lead];
        let ahead = ahead.into_iter().flatten();
        first.into_iter().chain(dead).chain(ahead).chain(rest).collect()
    }
}

/// So many nodes are told one by one.
const NODES_TOLD_MAX: usize = 6;

/// Bytes as a person says them.
pub fn sized(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (bytes as f64 / 1e3, 0);
    while 999.5 <= size && unit + 1 < units.len() {
        (size, unit) = (size / 1e3, unit + 1);
    }
    let digits = usize::from(size < 9.95);
    if bytes < 1_000 { format!("{bytes} B") } else { format!("{size:.digits$} {}", units[unit]) }
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// `.31`, `-.04`, `1.00`.
pub fn hundredths(it: f64) -> String {
    // Adding zero takes the sign of one that is rounded to it.
    let text = format!("{:.2}", (it * 100.0).round() / 100.0 + 0.0);
    match text.strip_prefix('-') {
        Some(digits) => format!("-{}", digits.strip_prefix('0').unwrap_or(digits)),
        None => text.strip_prefix('0').map_or(text.clone(), Into::into),
    }
}

/// A number with what it counts.
pub fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn empty(paper: Paper) -> Table {
    let mut table = Table::new();
    table.load_preset(match paper {
        Paper::Ruled => presets::UTF8_FULL_CONDENSED,
        Paper::Plain => presets::NOTHING,
    });
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn report() -> Report {
        let (first, hindsight) = (218.25, Some(74.5));
        Report {
            source: "moving-hotspot".into(),
            seed: Some(7),
            tick_ms: 5_000,
            nodes: [(NodeId("n1".into()), 218_181)].into(),
            nodes_from: NodesFrom::Stated,
            ticks: 120,
            records: 13_440,
            queries: 1_320_118,
            late: 0,
            dead: 3,
            dead_by_reason: [("key_too_long".into(), 1), ("unknown_schema".into(), 2)].into(),
            overload_node_seconds: Overload { first, hindsight, reactive: None, isotherm: 6.125 },
            moves: 42,
            splits: 19,
            joins: 6,
            ranges: 45,
            bytes_moved: 1_331_200_000,
            bytes: 1_024_000_000,
            unsplittable_share: 0.004,
            plan_digest: "5f1c".into(),
            overload_settled: Settled { reactive: Some(9.5), isotherm: Some(0.5) },
            lead: Leads {
                before: 30,
                after: 2,
                false_moves: 10,
                unknown: 0,
                median_ticks: Some(4.0),
            },
            forecast: Forecast {
                rung: "drift".into(),
                skill: Some(0.61),
                coverage80: Some(0.87),
                lead_s: Some(20.0),
                moves_by_rung: [("drift".into(), 40), ("ewma".into(), 2)].into(),
            },
        }
    }

    #[test]
    fn table_is_plain_on_plain_paper() {
        expect![[r#"
            overload area                        node-seconds  ÷ first
            first assignment, kept                      218.2    1.000
            best static one, in hindsight                74.5    0.341
            reactive (last tick for a forecast)             –        –
            isotherm                                      6.1    0.028

            replayed      moving-hotspot, seed 7: 120 ticks of 5000 ms
            nodes         n1 218,181 µs of service a second, as stated
            read          13,440 records, 1,320,118 queries; 0 late, 3 dead
            dead          1 key_too_long, 2 unknown_schema
            settled       0.5 node-seconds from tick 60 on; reactive 9.5
            forecast      drift, skill .61; 87 % of what came lay in the 80 % interval
            decided       40 by drift, 2 by ewma
            leads         median 4 ticks: 30 in time, 2 late, 10 false, 0 open
            done          42 moves, 19 splits, 6 joins; 45 ranges at the end
            moved         1.3 GB, 1.30 times the data
            unsplittable  0.4 % of the load: one key, or an edge that goes on
            plans         digest 5f1c
        "#]]
        .assert_eq(&report().table(Paper::Plain));
        let ruled = report().table(Paper::Ruled);
        assert!(ruled.contains('│') && ruled.contains("0.028"), "{ruled}");
        assert!(ruled.lines().all(|it| it.chars().count() <= 80), "{ruled}");
    }

    #[test]
    fn json_has_the_keys_that_programs_read() {
        let json = serde_json::to_value(report()).unwrap();
        for key in ["ticks", "records", "late", "dead", "moves", "splits", "bytes_moved"] {
            assert!(json[key].is_u64(), "{key} in {json}");
        }
        let area = |key: &str| json["overload_node_seconds"][key].as_f64();
        let areas = ["first", "hindsight", "reactive", "isotherm"].map(area);
        assert_eq!(areas, [Some(218.25), Some(74.5), None, Some(6.125)]);
        assert_eq!(json["unsplittable_share"].as_f64(), Some(0.004));
        assert_eq!(json["plan_digest"].as_str(), Some("5f1c"));
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
    }

    #[test]
    fn sizes_have_a_unit() {
        let told = [0, 999, 1_000, 45_678_000, 999_600_000, 12_000_000_000].map(sized);
        assert_eq!(told, ["0 B", "999 B", "1.0 kB", "46 MB", "1.0 GB", "12 GB"]);
    }
}

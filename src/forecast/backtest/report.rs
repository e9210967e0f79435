//! Shows a backtest as a table: a line an operation and target, a column a model.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{Line, NodeLine, Op};
use crate::forecast::ladder::{MODELS, Model};

/// The table of a backtest; `ruled` with lines for a terminal.
pub fn table(lines: &[Line], ruled: bool) -> String {
    let mut table = Table::new();
    table.load_preset(if ruled { presets::UTF8_HORIZONTAL_ONLY } else { presets::NOTHING });
    let models = MODELS.map(|it| it.to_string());
    let heads = ["panel", "op", "target"].map(str::to_owned).into_iter().chain(models);
    let behind = ["floor", "skill", "relmae", "in 80 %", "in 90 %", "above .99", "hottest", ""];
    table.set_header(heads.chain(behind.map(str::to_owned)));
    for group in lines.chunk_by(|a, b| (&a.panel, a.op, &a.target) == (&b.panel, b.op, &b.target)) {
        let of = |model: Model| group.iter().find(|it| it.model == model.to_string());
        let Some(shipped) = of(Model::Shipped) else { continue };
        let mut row: Vec<_> =
            [shipped.panel.clone(), shipped.op.to_string(), shipped.target.clone()]
                .map(Cell::new)
                .into();
        let mut number =
            |text: String| row.push(Cell::new(text).set_alignment(CellAlignment::Right));
        for model in MODELS {
            number(of(model).map_or("-".into(), |it| format!("{:.4}", it.wql)));
        }
        number(shipped.floor.map_or(String::new(), |it| format!("{it:.4}")));
        number(format!("{:.2}", shipped.skill));
        number(format!("{:.2}", shipped.relmae));
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        for part in [shipped.cover80, shipped.cover90, shipped.exceed99] {
            number(percent(part));
        }
        number(shipped.buckets.last().map_or(String::new(), |it| percent(it.exceed99)));
        let leaks = group.iter().filter(|it| it.suspected_leak).map(|it| it.model.as_str());
        let leaks: Vec<_> = leaks.collect();
        let said = if leaks.is_empty() {
            String::new()
        } else {
            format!("suspected leak: {}", leaks.join(", "))
        };
        row.push(Cell::new(said));
        table.add_row(row);
    }
    format!("{table}\n")
}

/// How often nodes had more to do than their own .9, a line a panel.
pub fn node_table(nodes: &[NodeLine]) -> String {
    let line = |it: &NodeLine| {
        format!(
            "{}: the mean load of thirty bins was above a node's own .9 in {:.1} % of {} cases ({} nodes)\n",
            it.panel,
            it.exceed90 * 100.0,
            it.count,
            it.nodes
        )
    };
    nodes.iter().map(line).collect()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::All => "all",
        })
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Persistence => "persistence",
            Self::Ewma => "ewma",
            Self::Linear => "linear",
            Self::Network => "network",
            Self::Shipped => "shipped",
        })
    }
}

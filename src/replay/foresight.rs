//! Says how well a run looked ahead: who answered, how well, and on whom its moves rest.

use std::collections::BTreeMap;

use schemas::planner_progress::TickDone;
use serde::{Deserialize, Serialize};

use super::report::{grouped, hundredths};

/// As of the end of the load. `None`: it cannot be told yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Which rung answers; empty before there is one.
    pub rung: String,
    /// 1 − loss ÷ loss of calibrated persistence, lately, of the mean of the next thirty ticks.
    pub skill: Option<f64>,
    /// Share of what came, lately, that lay in the 80 % interval.
    pub coverage80: Option<f64>,
    /// Median of how long before the overload that they avoided moves had their effect.
    pub lead_s: Option<f64>,
    /// How many moves were decided while each rung answered for the mean of thirty ticks of reads.
    pub moves_by_rung: BTreeMap<String, u64>,
}

impl Forecast {
    /// What a tick says of it; leads and moves are not known to that.
    pub fn of(done: &TickDone) -> Self {
        Self {
            rung: done.rung.clone(),
            skill: done.skill_permille.map(|it| f64::from(it) / 1_000.0),
            coverage80: done.coverage80_permille.map(|it| f64::from(it) / 1_000.0),
            lead_s: None,
            moves_by_rung: BTreeMap::new(),
        }
    }

    /// Rung and skill: `ewma, skill .31`.
    pub fn shortly(&self) -> String {
        match self.skill {
            _ if self.rung.is_empty() => "none yet".into(),
            Some(skill) => format!("{}, skill {}", self.rung, hundredths(skill)),
            None => self.rung.clone(),
        }
    }

    pub fn told(&self) -> String {
        let coverage = self.coverage80.map_or_else(String::new, |it| {
            format!("; {:.0} % of what came lay in the 80 % interval", it * 100.0)
        });
        format!("{}{coverage}", self.shortly())
    }

    /// Who answered while moves were decided: `40 by drift, 2 by ewma`; `None`: there were none.
    pub fn deciders(&self) -> Option<String> {
        let told = |(rung, n): (&String, &u64)| format!("{} by {rung}", grouped(*n));
        let all: Vec<_> = self.moves_by_rung.iter().map(told).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

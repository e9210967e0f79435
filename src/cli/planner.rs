//! Runs the control plane.

use clap::Args;

use super::Flag;
use super::exit::{Exit, Fault, need_cluster};
use crate::config::Config;

#[derive(Clone, Debug, Args)]
pub struct PlannerArgs {
    /// observe or auto, instead of `planner.mode`
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// The name of this planner's progress, instead of `planner.id`
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How long a tick is, instead of `planner.tick`
    #[arg(long, value_name = "DURATION")]
    pub tick: Option<String>,
    /// Where /livez and /readyz are served, instead of `planner.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl PlannerArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("--mode", "planner.mode", &self.mode),
            ("--id", "planner.id", &self.id),
            ("--tick", "planner.tick", &self.tick),
            ("--listen", "planner.listen", &self.listen),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }
}

pub fn run(config: &Config, _args: &PlannerArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    Err(anyhow::anyhow!("`planner` is not part of this build yet").into())
}

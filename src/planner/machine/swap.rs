//! Lets another network forecast, from the next tick on.
//!
//! ```text
//!  SWAP_MODEL in tick n ──> sound? another one? ──> settings of tick n + 1 ──> policy on planner_progress
//! ```
//!
//! * **Known to a replay.** The model comes with a record of a tick's box, and goes into the settings by which
//!   the next tick is decided: those are written to progress when they change, weights and all.
//! * **Never within a tick.** What a tick forecasts, one network has said.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemas::operator_command::OperatorCommand;

use super::operate::{Refused, refused};
use super::{Planner, State};
use crate::forecast::Rung;
use crate::forecast::model::Model;
use crate::planner::settings::Settings;

/// Stands for the model that is built in, where a command or the state names another.
const BUILT_IN: &str = "";

impl Planner {
    /// The settings' network in the next tick; `None`: the one that is built in.
    pub fn network(&self) -> Option<String> {
        match &self.state.next_network {
            Some(next) => Some(next.clone()).filter(|it| it != BUILT_IN),
            None => self.state.settings.network.clone(),
        }
    }

    /// Forecasts by another network from the next tick on.
    pub fn forecasts_by(&mut self, network: Option<String>) {
        if self.state.settings.network != network {
            self.state.settings.network = network;
            self.state.forecaster.swap_model(self.state.settings.model());
            self.policy = self.state.settings.text();
        }
        self.state.swapped();
    }

    /// Notes the model that a command brings, an empty one being that which is built in; says which.
    pub(super) fn swap_model(&mut self, command: &OperatorCommand) -> Result<String, Refused> {
        if self.state.settings.rung != Rung::Ladder {
            return Err(refused("no_network", "no network forecasts: planner.forecast is another"));
        }
        let Some(file) = &command.model else {
            let detail = "it brings no model, one that is too large, or a later one came with it";
            return Err(refused("incomplete", detail));
        };
        let model = match file.as_slice() {
            [] => Model::shipped(),
            file => Model::decode(file).map_err(|error| Refused {
                code: "no_model",
                detail: format!("what it brings is no model: {error}"),
            })?,
        };
        if *model.digest() == self.next_digest() {
            return Err(refused("model_there", "it is the one that forecasts already"));
        }
        let detail = format!("from the next tick on {} forecasts", model.digest());
        self.state.next_network = Some(match file.as_slice() {
            [] => BUILT_IN.to_owned(),
            _ => BASE64_STANDARD.encode(model.without_backtest().encode()),
        });
        Ok(detail)
    }

    fn next_digest(&self) -> String {
        let next = Settings { network: self.network(), ..self.state.settings.clone() };
        next.model().digest().to_owned()
    }
}

impl State {
    /// What was to come is there, if the settings have it.
    pub(super) fn swapped(&mut self) {
        let own = self.settings.network.as_deref().unwrap_or(BUILT_IN);
        self.next_network.take_if(|it| it == own);
    }
}

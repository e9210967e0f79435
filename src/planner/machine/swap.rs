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

use super::Planner;
use super::operate::{Refused, refused};
use crate::forecast::Rung;
use crate::forecast::model::Model;
use crate::planner::settings::Settings;

impl Planner {
    /// The settings' network in the next tick, if it is another one than is built in.
    pub fn network(&self) -> Option<String> {
        self.state.next_network.clone().or_else(|| self.state.settings.network.clone())
    }

    /// Forecasts by another network from the next tick on.
    pub fn forecasts_by(&mut self, network: Option<String>) {
        if self.state.settings.network == network {
            return;
        }
        self.state.settings.network = network;
        self.state.forecaster.load_network(self.state.settings.model().weights);
        self.policy = self.state.settings.text();
    }

    /// Notes the model that a command brings; says which.
    pub(super) fn swap_model(&mut self, command: &OperatorCommand) -> Result<String, Refused> {
        if self.state.settings.rung != Rung::Ladder {
            return Err(refused("no_network", "no network forecasts: planner.forecast is another"));
        }
        let Some(file) = &command.model else {
            let detail = "it brings no model, one that is too large, or a later one came with it";
            return Err(refused("incomplete", detail));
        };
        let model = Model::decode(file).map_err(|error| Refused {
            code: "no_model",
            detail: format!("what it brings is no model: {error}"),
        })?;
        if *model.digest() == self.next_digest() {
            return Err(refused("model_there", "it is the one that forecasts already"));
        }
        let detail = format!("from the next tick on {} forecasts", model.digest());
        let model = model.without_backtest();
        self.state.next_network = Some(BASE64_STANDARD.encode(model.encode()));
        Ok(detail)
    }

    fn next_digest(&self) -> String {
        let next = Settings { network: self.network(), ..self.state.settings.clone() };
        next.model().digest().to_owned()
    }
}

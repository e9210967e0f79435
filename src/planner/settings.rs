//! Says what a planner goes by; part of what every decision rests on.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dataflows::Tick;
use dataflows::balance::policy::Policy;
use dataflows::cells::CellRules;
use dataflows::tally::Costs;
use schemas::Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::snapshot::hex;
use crate::forecast::Rung;
use crate::forecast::model::Model;
use crate::foreign::form::Form;

/// What the planner may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Plans nothing: the baseline.
    Observe,
    Auto,
}

/// All of it. What is in here is written to progress when its digest changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub tick_ms: u64,
    pub mode: Mode,
    pub rung: Rung,
    pub costs: Costs,
    pub cells: CellRules,
    pub policy: Policy,
    /// The first assignment waits for so many nodes.
    pub birth_nodes: u32,
    /// Where the ranges of the first assignment begin, besides at the beginning.
    pub split_points: Vec<Key>,
    /// Where the last range's cells end at first, though it is open-ended; empty: unknown.
    pub key_end: Key,
    /// A snapshot is taken every so many ticks; 0: never.
    pub snapshot_ticks: Tick,
    /// A node that has not reported for so long is given nothing.
    pub silent_ticks: Tick,
    /// A destination that has not answered a CANCEL after so long is taken to have failed.
    pub cancel_grace_ms: u64,
    /// What form query logs have, with what a registry told of their schemas.
    #[serde(default)]
    pub query_log: Form,
    /// The file of the model whose network forecasts, in Base64; `None`: the one that is built in.
    #[serde(default)]
    pub network: Option<String>,
}

impl Settings {
    /// Returns the text that progress keeps, and its digest. It names the model that forecasts, too.
    pub fn text(&self) -> (String, String) {
        let text = match self.rung {
            Rung::Persistence | Rung::Ewma => serde_json::to_string(self),
            Rung::Ladder => {
                let model = self.model().digest().to_owned();
                serde_json::to_string(&Named { settings: self, model })
            }
        };
        let text = text.expect("plain values can be written");
        let digest = hex(&Sha256::digest(text.as_bytes()));
        (text, digest)
    }

    /// Reads such a text. Fails when it forecasts by a model that is neither in it nor in this program.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        // One by one: keys of maps that are numbers are not read through what is flattened.
        let settings: Self = serde_json::from_str(text)?;
        let Of { model } = serde_json::from_str(text)?;
        settings.check()?;
        let own = settings.model();
        ensure!(
            model.as_deref().is_none_or(|it| it == own.digest()),
            "it forecasts by the model {}, and this program has {}: run the version that has that one, or \
             choose another planner id, which adopts the assignment",
            model.unwrap_or_default(),
            own.digest()
        );
        Ok(settings)
    }

    /// Fails when the model that it brings is none for this program.
    pub fn check(&self) -> anyhow::Result<()> {
        let read = self.network.as_deref().map(read).transpose();
        read.map(|_| ()).context(
            "the network by which it forecasts is none for this program: run the version that took it, or choose \
             another planner id, which adopts the assignment",
        )
    }

    /// The model whose network forecasts.
    pub fn model(&self) -> Model {
        self.network.as_deref().map_or_else(Model::shipped, |it| {
            read(it).expect("settings are checked when they are read")
        })
    }
}

fn read(network: &str) -> anyhow::Result<Model> {
    Ok(Model::decode(&BASE64_STANDARD.decode(network)?)?)
}

/// Settings, and the model that forecasts.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    settings: &'a Settings,
    model: String,
}

/// The model that a text names.
#[derive(Deserialize)]
struct Of {
    #[serde(default)]
    model: Option<String>,
}

//! Says what a model file is: one line of JSON that tells where the model comes from, then its weights.
//!
//! ```text
//!  {"format":"isotherm-model","version":2,"layout":…,"seed":…,"panels":[…],"backtest":[…]}⏎
//!  weights: f32, little-endian: of the network, tensor by tensor; of the linear model of reads, feature by feature
//!  and in it by target, and of that of writes
//! ```
//!
//! The linear model answers where none was fitted yet, so that the network, which corrects it, answers from the first
//! ticks on.

use std::collections::BTreeMap;
use std::time::Duration;

use dataflows::forecast::TARGETS;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::OPS;
use super::backtest::Line;
use super::features::FEATURES;
use super::gru::{SHAPES, Weights};
use super::linear::Linear;
use super::panel::Panel;

static SHIPPED: &[u8] = include_bytes!("shipped.model");

const FORMAT: &str = "isotherm-model";
const VERSION: u32 = 2;

/// A network and the linear model to begin with, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub head: Head,
    pub weights: Weights,
    pub linear: [Linear; OPS],
}

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    format: String,
    version: u32,
    /// How many features a row has, the rows and columns of each tensor, and how many targets there are.
    layout: Layout,
    pub seed: u64,
    pub steps: u32,
    /// Digest of the model that it began with; `None`: with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_with: Option<String>,
    /// What it was trained on.
    pub panels: Vec<Span>,
    /// What came of it on what it was not trained on.
    pub backtest: Vec<Line>,
    /// Of the weights, in hexadecimal.
    digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    features: usize,
    tensors: Vec<(usize, usize)>,
    targets: usize,
}

/// Some bins of a panel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub name: String,
    pub digest: String,
    pub bin_ms: u64,
    /// Bins have a time, and are counted from where that is zero.
    #[serde(default)]
    pub is_timed: bool,
    /// The first bin, and the one behind the last.
    pub from: usize,
    pub to: usize,
    /// By partition the first offset, and the one behind the last, that the whole panel is from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<u32, [u64; 2]>,
}

impl Span {
    /// Such as `tw52_10s: bins 0 to 317 of 10s`.
    pub fn told(&self) -> String {
        let bin = humantime::format_duration(Duration::from_millis(self.bin_ms));
        format!("{}: bins {} to {} of {bin}", self.name, self.from, self.to)
    }
}

/// Why bytes are no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("its first line is not that of a model")]
    Head,
    #[error("it has version {0}, and this program reads {VERSION}")]
    Version(u32),
    #[error("its features or tensors are not those of this program")]
    Layout,
    #[error("its weights are not those that its first line tells of")]
    Weights,
}

impl Span {
    /// What is before a bin.
    pub fn of(panel: &Panel, to: usize) -> Self {
        let (name, digest) = (panel.name.clone(), panel.digest.clone());
        let (bin_ms, offsets) = (panel.bin_ms, panel.offsets.clone());
        let (is_timed, from) = match panel.start_ms {
            Some(start_ms) => (true, (start_ms / bin_ms) as usize),
            None => (false, 0),
        };
        Self { name, digest, bin_ms, is_timed, from, to: from + to, offsets }
    }

    /// Tells whether it has some of a panel's bins from `first` on; where bins have a time, however long those of
    /// either are.
    pub fn has(&self, panel: &Panel, first: usize) -> bool {
        let (unit, own_unit) = if self.is_timed { (panel.bin_ms, self.bin_ms) } else { (1, 1) };
        let start = if self.is_timed { panel.start_ms.unwrap_or_default() } else { 0 };
        let at = |bin: usize| start.saturating_add((bin as u64).saturating_mul(unit));
        let [from, to] = [self.from, self.to].map(|it| (it as u64).saturating_mul(own_unit));
        self.digest == panel.digest && from < at(panel.bins.len()) && at(first) < to
    }

    /// Takes in another one of the same source, and what lies between both; `false` if it is of another.
    pub fn join(&mut self, other: &Self) -> bool {
        let same = |it: &Self| (it.digest.clone(), it.bin_ms, it.is_timed);
        if same(self) != same(other) {
            return false;
        }
        (self.from, self.to) = (self.from.min(other.from), self.to.max(other.to));
        for (partition, [first, end]) in &other.offsets {
            let own = self.offsets.entry(*partition).or_insert([*first, *end]);
            *own = [own[0].min(*first), own[1].max(*end)];
        }
        true
    }
}

impl Model {
    /// The one that is built in; docs/forecast.md has the command that made it.
    pub fn shipped() -> Self {
        Self::decode(SHIPPED).expect("what is built in was tested")
    }

    pub fn new(
        (weights, linear): (Weights, [Linear; OPS]),
        seed: u64,
        steps: u32,
        panels: Vec<Span>,
    ) -> Self {
        let digest = digest(&bytes(&weights, &linear));
        let (format, backtest) = (FORMAT.to_owned(), Vec::new());
        let head = Head {
            format,
            version: VERSION,
            layout: layout(),
            seed,
            steps,
            begun_with: None,
            panels,
            backtest,
            digest,
        };
        Self { head, weights, linear }
    }

    /// Reads a model file; whatever the bytes, nothing but a sound model is returned.
    pub fn decode(file: &[u8]) -> Result<Self, ModelError> {
        let end = file.iter().position(|it| *it == b'\n').ok_or(ModelError::Head)?;
        let (line, weights) = (&file[..end], &file[end + 1..]);
        let told: serde_json::Value = serde_json::from_slice(line).map_err(|_| ModelError::Head)?;
        if told["format"] != FORMAT {
            return Err(ModelError::Head);
        }
        let version = told["version"].as_u64().ok_or(ModelError::Head)?;
        if version != u64::from(VERSION) {
            return Err(ModelError::Version(version as u32));
        }
        let head: Head = serde_json::from_value(told).map_err(|_| ModelError::Head)?;
        if head.layout != layout() {
            return Err(ModelError::Layout);
        }
        let size: usize = SHAPES.iter().map(|(rows, columns)| rows * columns).sum();
        let size = size + OPS * FEATURES * TARGETS;
        if weights.len() != size * 4 || digest(weights) != head.digest {
            return Err(ModelError::Weights);
        }
        let numbers = weights.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it));
        let mut numbers = numbers.collect::<Vec<_>>().into_iter();
        let weights = SHAPES.map(|(rows, columns)| numbers.by_ref().take(rows * columns).collect());
        let weights = Weights(weights.to_vec());
        if weights.0.iter().flatten().any(|it: &f32| !it.is_finite()) {
            return Err(ModelError::Weights);
        }
        let mut linear = || {
            let weights: Vec<_> = numbers.by_ref().take(FEATURES * TARGETS).collect();
            Linear::of(&weights).ok_or(ModelError::Weights)
        };
        let linear = [linear()?, linear()?];
        Ok(Self { head, weights, linear })
    }

    /// Of the weights, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.head.digest
    }

    /// The same without what came of it: a third of the file.
    pub fn without_backtest(mut self) -> Self {
        self.head.backtest = Vec::new();
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut file = serde_json::to_vec(&self.head).expect("a head is plain values");
        file.push(b'\n');
        file.extend(bytes(&self.weights, &self.linear));
        file
    }
}

fn layout() -> Layout {
    Layout { features: FEATURES, tensors: SHAPES.to_vec(), targets: TARGETS }
}

fn bytes(weights: &Weights, linear: &[Linear; OPS]) -> Vec<u8> {
    let linear = linear.iter().flat_map(|it| it.weights().as_flattened());
    weights.0.iter().flatten().chain(linear).flat_map(|it| it.to_le_bytes()).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    use super::*;

    fn model() -> Model {
        let span = Span {
            name: "p".into(),
            digest: "d".into(),
            bin_ms: 10_000,
            is_timed: true,
            from: 0,
            to: 300,
            offsets: [(3, [7, 90])].into(),
        };
        let weights = Weights::untrained(&mut Pcg64::seed_from_u64(1));
        let linear = [0.5, -2.0].map(|it| Linear::of(&[it; FEATURES * TARGETS]).unwrap());
        Model::new((weights, linear), 1, 2, vec![span])
    }

    #[test]
    fn model_that_is_built_in_is_sound_and_tells_where_it_is_from() {
        let shipped = Model::shipped();
        assert!(!shipped.head.panels.is_empty() && !shipped.head.backtest.is_empty());
    }

    #[test]
    fn model_reads_as_it_was_written() {
        assert_eq!(Model::decode(&model().encode()), Ok(model()));
    }

    #[test]
    fn file_that_is_no_sound_model_is_refused() {
        let file = model().encode();
        let check = |file: Vec<u8>, error: ModelError| assert_eq!(Model::decode(&file), Err(error));
        let replaced = |from: &str, to: &str| {
            let end = file.iter().position(|it| *it == b'\n').unwrap();
            let head = String::from_utf8(file[..end].to_vec()).unwrap();
            assert!(head.contains(from), "{head}");
            [head.replacen(from, to, 1).as_bytes(), &file[end..]].concat()
        };
        check(Vec::new(), ModelError::Head);
        check(replaced("isotherm-model", "other"), ModelError::Head);
        check(replaced("\"version\":2", "\"version\":1"), ModelError::Version(1));
        check(replaced("\"features\":7", "\"features\":8"), ModelError::Layout);
        check(file[..file.len() - 4].to_vec(), ModelError::Weights);
        let mut flipped = file.clone();
        *flipped.last_mut().unwrap() ^= 1;
        check(flipped, ModelError::Weights);
    }
}

//! Puts the configuration together from its layers, and knows where each value came from.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use miette::Diagnostic;

use super::secrets::{self, Vault};
use super::{Config, Problem, dict_of, types};

/// Stands before the names of environment variables; `__` stands between section and key.
pub const ENV_PREFIX: &str = "ISOTHERM__";

/// Where configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Read if they are there, low to high.
    pub files: Vec<PathBuf>,
    /// `--config`: read, and missed if they are not there.
    pub named: Vec<PathBuf>,
    pub env: Vec<(String, String)>,
    /// (flag, key, value).
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A merged configuration; secrets are still references.
#[derive(Clone, Debug)]
pub struct Loaded {
    config: Config,
    /// In the order of keys.
    pub settings: Vec<Setting>,
}

/// One value, as it may be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// As TOML; empty, if it is not set.
    pub value: String,
    pub origin: String,
}

/// Why a configuration cannot be used: every problem that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl Sources {
    /// The usual places, and the environment of this process.
    pub fn usual() -> Self {
        let mut files = vec![PathBuf::from("/etc/isotherm/isotherm.toml")];
        let home = std::env::var_os("HOME").map(|it| PathBuf::from(it).join(".config"));
        let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
        files.extend(user.map(|it| it.join("isotherm/isotherm.toml")));
        files.push(PathBuf::from("isotherm.toml"));
        Self { files, env: std::env::vars().collect(), ..Self::default() }
    }

    /// Reads and merges all layers, and checks the result.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut layers = vec![Layer { name: "default".into(), dict: dict_of(&Config::default()) }];
        for (paths, must_be_there) in [(&self.files, false), (&self.named, true)] {
            for path in paths {
                layers.extend(read(path, must_be_there)?);
            }
        }
        layers.extend(self.env.iter().filter_map(|(name, value)| of_env(name, value)));
        for (flag, key, value) in &self.flags {
            let path: Vec<&str> = key.split('.').collect();
            layers.push(Layer { name: (*flag).into(), dict: nested(&path, value) });
        }
        merge(layers)
    }
}

impl Loaded {
    /// Fills in the secrets: the configuration as a process uses it.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let mut config = self.config;
        let env = |name: &str| std::env::var(name).ok();
        let file = |path: &str| std::fs::read_to_string(path).map_err(|it| it.to_string());
        let vault = Vault { env: &env, file: &file };
        let filled = secrets::fill(&mut config, &vault);
        filled.map_err(|(key, reason)| {
            let origin = origin_of(&self.settings, &key);
            let remedy =
                "set what it refers to; references are ${env:NAME} and ${file:PATH}".into();
            Problem { code: "secret", key, origin, reason, remedy }
        })?;
        Ok(config)
    }
}

/// Writes a value as TOML does.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(_, text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Char(_, it) => serde_json::Value::from(it.to_string()).to_string(),
        Value::Bool(_, it) => it.to_string(),
        Value::Num(_, it) => it
            .to_u128()
            .map(|it| it.to_string())
            .or_else(|| it.to_i128().map(|it| it.to_string()))
            .or_else(|| it.to_f64().map(|it| it.to_string()))
            .unwrap_or_default(),
        Value::Empty(..) => String::new(),
        Value::Array(_, items) => {
            format!("[{}]", items.iter().map(text_of).collect::<Vec<_>>().join(", "))
        }
        Value::Dict(_, dict) => {
            let item = |(key, value): (&String, &Value)| format!("{key:?} = {}", text_of(value));
            format!("{{ {} }}", dict.iter().map(item).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Values of one origin.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// STEP 1: unknown keys, layer by layer. STEP 2: merge and types. STEP 3: what types do not say.
fn merge(layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
    let known = dict_of(&Config::default());
    let mut problems = Vec::new();
    let mut figment = Figment::new();
    for layer in layers {
        unknown(&layer, &layer.dict, &known, "", &mut problems);
        figment = figment.merge(layer);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let wrong = |it| ConfigError { problems: types::problems(it, &figment) };
    let config: Config = figment.extract().map_err(wrong)?;

    let merged = figment.data().map_err(wrong)?;
    let mut settings = Vec::new();
    let name =
        |tag: Tag| figment.get_metadata(tag).map_or("default".into(), |it| it.name.to_string());
    for (section, value) in merged.values().flatten() {
        flatten(section, value, &name, &mut settings);
    }
    let wrong = config.check().into_iter().map(|(key, reason, remedy)| Problem {
        code: "value",
        key: key.into(),
        origin: origin_of(&settings, key),
        reason,
        remedy: remedy.into(),
    });
    let problems: Vec<Problem> = wrong.collect();
    if problems.is_empty() {
        Ok(Loaded { config, settings })
    } else {
        Err(ConfigError { problems })
    }
}

fn read(path: &Path, must_be_there: bool) -> Result<Option<Layer>, ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_be_there => Ok(None),
        Err(error) => Err(ConfigError::from(Problem {
            code: "file",
            key: String::new(),
            origin: name,
            reason: format!("cannot be read: {error}"),
            remedy: "name a TOML file that is there and can be read".into(),
        })),
    }
}

fn parse(name: &str, text: &str) -> Result<Layer, ConfigError> {
    let data = Toml::string(text).data().map_err(|error| Problem {
        code: "syntax",
        key: String::new(),
        origin: name.into(),
        reason: error.kind.to_string().trim_end().to_owned(),
        remedy: "correct the TOML at that place".into(),
    })?;
    let mut dict = data.into_values().next().unwrap_or_default();
    if let Some(Value::Dict(_, kafka)) = dict.get_mut("kafka") {
        properties_as_text(kafka);
    }
    Ok(Layer { name: name.into(), dict })
}

/// Makes text of what a person wrote as a number or without quotes around its dots: librdkafka takes
/// text only, and its names have dots.
fn properties_as_text(kafka: &mut Dict) {
    for (key, value) in kafka {
        let Value::Dict(_, table) = value else { continue };
        if key == "properties" {
            let mut flat = Dict::new();
            for (name, value) in &*table {
                texts(name, value, &mut flat);
            }
            *table = flat;
        } else {
            properties_as_text(table);
        }
    }
}

fn texts(name: &str, value: &Value, flat: &mut Dict) {
    match value {
        Value::Dict(_, inner) => {
            inner.iter().for_each(|(part, value)| texts(&format!("{name}.{part}"), value, flat));
        }
        Value::String(_, text) => {
            flat.insert(name.into(), Value::from(text.clone()));
        }
        Value::Num(..) | Value::Bool(..) | Value::Char(..) => {
            flat.insert(name.into(), Value::from(text_of(value)));
        }
        // Left for the check of types, which names it.
        Value::Array(..) | Value::Empty(..) => {
            flat.insert(name.into(), value.clone());
        }
    }
}

/// `ISOTHERM__PLANNER__TICK` is `planner.tick`; in the name of a property `_` stands for its dots.
fn of_env(name: &str, value: &str) -> Option<Layer> {
    let path = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
    let mut path: Vec<String> = path.split("__").map(Into::into).collect();
    if let [.., table, property] = path.as_mut_slice()
        && table == "properties"
    {
        *property = property.replace('_', ".");
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(Layer { name: name.into(), dict: nested(&path, value) })
}

/// A table that has a text at a path, in the type that the default has there.
fn nested(path: &[&str], text: &str) -> Dict {
    let default = path.iter().try_fold(Value::from(dict_of(&Config::default())), |value, part| {
        value.into_dict()?.remove(*part)
    });
    let value = match default {
        // An empty list says nothing of its items, but all lists are of text.
        Some(Value::Array(..)) => {
            let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
        // What has no default may be a number or a text.
        Some(Value::Num(..) | Value::Bool(..) | Value::Empty(..)) => {
            text.parse().unwrap_or_else(|_| Value::from(text))
        }
        Some(Value::String(..) | Value::Char(..) | Value::Dict(..)) | None => Value::from(text),
    };
    let wrap = |value: Value, part: &&str| Value::from(Dict::from([((*part).to_owned(), value)]));
    let outer = path.iter().rev().fold(value, wrap);
    outer.into_dict().expect("a path has one part at least")
}

/// Finds the keys that the default does not have; tables without defaults hold any key.
fn unknown(layer: &Layer, dict: &Dict, known: &Dict, path: &str, problems: &mut Vec<Problem>) {
    for (key, value) in dict {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (known.get(key), value) {
            (Some(Value::Dict(_, inner)), Value::Dict(_, value)) if key != "properties" => {
                unknown(layer, value, inner, &full, problems);
            }
            (Some(_), _) => (),
            (None, _) => problems.push(Problem {
                code: "unknown_key",
                origin: layer.name.clone(),
                reason: "there is no such key".into(),
                remedy: suggestion(&full, key),
                key: full,
            }),
        }
    }
}

/// Finds the known key that looks most like this one, in its section or in another.
fn suggestion(full: &str, key: &str) -> String {
    let mut keys = Vec::new();
    let known = dict_of(&Config::default());
    for (section, value) in &known {
        if full == key {
            keys.push(section.clone());
        }
        if let Value::Dict(_, dict) = value {
            keys.extend(dict.keys().map(|it| format!("{section}.{it}")));
        }
    }
    let section = |path: &str| path.rsplit_once('.').map(|(section, _)| section.to_owned());
    let likeness = |known: &String| {
        let last = known.rsplit('.').next().unwrap_or(known);
        // Of two keys that look as much like it, the one of its own section.
        let near = if section(known) == section(full) { 1.0 } else { 0.99 };
        strsim::jaro_winkler(last, key) * near
    };
    let best = keys.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|it| 0.8 < likeness(it)) {
        Some(best) => format!("did you mean `{best}`?"),
        None => there_are(full, known),
    }
}

/// What keys there are where this one is not.
fn there_are(full: &str, known: Dict) -> String {
    let known = Value::from(known);
    let section = full.rsplit_once('.').and_then(|(path, _)| Some((path, known.find_ref(path)?)));
    let keys = |it: &Value| {
        let keys = it.as_dict().into_iter().flat_map(Dict::keys);
        keys.map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    match section {
        Some((path, section)) => format!("[{path}] has {}", keys(section)),
        None => format!("there are the sections {}", keys(&known)),
    }
}

fn flatten(key: &str, value: &Value, name: &dyn Fn(Tag) -> String, settings: &mut Vec<Setting>) {
    if let Value::Dict(_, dict) = value {
        for (part, value) in dict {
            flatten(&format!("{key}.{part}"), value, name, settings);
        }
        return;
    }
    let text = match value.as_str() {
        Some(text) if secrets::may_be_secret(key) => {
            text_of(&Value::from(secrets::masked(key, text)))
        }
        Some(_) | None => text_of(value),
    };
    settings.push(Setting { key: key.into(), value: text, origin: name(value.tag()) });
}

fn origin_of(settings: &[Setting], key: &str) -> String {
    settings.iter().find(|it| it.key == key).map_or("default".into(), |it| it.origin.clone())
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { key, origin, reason, .. }) in self.problems.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            if key.is_empty() {
                write!(f, "{newline}{origin}: {reason}")?;
            } else {
                write!(f, "{newline}`{key}` ({origin}): {reason}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        let code = self.problems.first().map_or("value", |it| it.code);
        Some(Box::new(format!("isotherm::config::{code}")))
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        let remedies: Vec<&str> = self.problems.iter().map(|it| it.remedy.as_str()).collect();
        Some(Box::new(remedies.join("\n")))
    }
}

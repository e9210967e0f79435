//! Prints the configuration: each value, and where it came from.

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, Fault};
use super::{Form, print};
use crate::config::layers::{Loaded, Setting};

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print each value as it is in effect; secrets are masked
    Show(ShowArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// With where each value came from
    #[arg(long)]
    pub origin: bool,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

pub fn run(loaded: &Loaded, command: &ConfigCommand) -> Result<Exit, Box<Fault>> {
    let ConfigCommand::Show(args) = command;
    print(&shown(&loaded.settings, args))?;
    Ok(Exit::Done)
}

/// As a table it is TOML, which can be used as a configuration.
fn shown(settings: &[Setting], args: &ShowArgs) -> String {
    let value = |it: &Setting| match args.origin {
        true => json!({ "key": it.key, "value": it.value, "origin": it.origin }),
        false => json!({ "key": it.key, "value": it.value }),
    };
    match args.output {
        Form::Table => table(settings, args.origin),
        Form::Json => format!("{:#}\n", json!(settings.iter().map(value).collect::<Vec<_>>())),
        Form::Jsonl => settings.iter().map(|it| format!("{}\n", value(it))).collect(),
    }
}

fn table(settings: &[Setting], origin: bool) -> String {
    let line = |it: &Setting| match it.value.is_empty() {
        true => format!("# {} is not set", quoted(&it.key)),
        false => format!("{} = {}", quoted(&it.key), it.value),
    };
    let width = settings.iter().map(|it| line(it).chars().count()).max().unwrap_or(0);
    let told = |it: &Setting| match origin {
        true => format!("{:width$}  # {}\n", line(it), it.origin),
        false => format!("{}\n", line(it)),
    };
    settings.iter().map(told).collect()
}

/// The names of properties have dots, and so need quotes in TOML.
fn quoted(key: &str) -> String {
    match key.split_once(".properties.") {
        Some((table, property)) => format!("{table}.properties.\"{property}\""),
        None => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn table_is_toml_with_origins_as_comments() {
        let setting = |key: &str, value: &str, origin: &str| Setting {
            key: key.into(),
            value: value.into(),
            origin: origin.into(),
        };
        let settings = [
            setting("kafka.properties.sasl.password", "\"********\"", "isotherm.toml"),
            setting("planner.tick", "\"5s\"", "default"),
            setting("worker.inbox", "", "default"),
        ];
        let mut args = ShowArgs { origin: true, output: Form::Table };
        expect![[r#"
            kafka.properties."sasl.password" = "********"  # isotherm.toml
            planner.tick = "5s"                            # default
            # worker.inbox is not set                      # default
        "#]]
        .assert_eq(&shown(&settings, &args));
        args.output = Form::Jsonl;
        expect![[r#"
            {"key":"kafka.properties.sasl.password","origin":"isotherm.toml","value":"\"********\""}
            {"key":"planner.tick","origin":"default","value":"\"5s\""}
            {"key":"worker.inbox","origin":"default","value":""}
        "#]]
        .assert_eq(&shown(&settings, &args));
    }
}

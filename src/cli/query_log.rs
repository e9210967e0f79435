//! Reads query logs in the form that is configured, as a planner would.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use schemas::Millis;

use super::Flag;
use super::exit::{Exit, Fault};
use super::named;
use crate::config::Config;
use crate::foreign::form::{Form, Format};
use crate::foreign::mapping::Misfit;
use crate::foreign::translator::{Translator, check_schema};
use crate::kafka::registry::{Access, Away, BadAddress, Registry, Told};

/// How often somebody who waits for the answer asks a registry that is away.
const TRIES: u32 = 3;

/// Returns what form query logs have, and checks what is configured of that.
pub fn form(config: &Config) -> Result<Form, Box<Fault>> {
    let it = &config.query_log;
    let schema = match it.schema.as_str() {
        "" => None,
        file => Some(schema_of(file)?),
    };
    let registry = access(config);
    if let Some(registry) = &registry {
        Registry::open(registry).map_err(bad_address)?;
    }
    Ok(Form {
        format: it.format,
        mapping: it.mapping(),
        schema,
        registry: registry.map(|it| it.url),
        by_id: Default::default(),
    })
}

/// Returns who is asked for schemas, if anybody has to be.
pub fn access(config: &Config) -> Option<Access> {
    let is_asked = match config.query_log.format {
        Format::Avro | Format::Auto => config.query_log.schema.is_empty(),
        Format::Isotherm | Format::Json => false,
    };
    let it = config.schema_registry.clone();
    let access = Access { url: it.url, user: it.user, password: it.password };
    Some(access).filter(|it| is_asked && !it.url.is_empty())
}

/// A schema on the command line says that there is Avro.
pub fn flags(schema: Option<&str>) -> Vec<Flag> {
    let set = |it: &str| {
        [("--schema", "query_log.schema", it), ("--schema", "query_log.format", "auto")]
            .map(|(flag, key, value)| (flag, key, value.to_owned()))
    };
    schema.into_iter().flat_map(set).collect()
}

fn schema_of(file: &str) -> Result<String, Box<Fault>> {
    const CODE: &str = "isotherm::query_log::schema";
    let text = std::fs::read_to_string(file)
        .map_err(|error| named::unread_of("query_log.schema", CODE, Path::new(file), &error))?;
    check_schema(&text).map_err(|error| {
        let what = format!("the schema {file} cannot be used: {error}");
        let remedy = "set query_log.schema, or --schema, to a file of the writer's Avro schema";
        Fault::new(Exit::Usage, CODE, what).remedy(remedy)
    })?;
    Ok(text)
}

fn bad_address(err: BadAddress) -> Box<Fault> {
    let remedy = match &err {
        BadAddress::NoHttp(_) => {
            "set schema_registry.url to an address such as http://registry:8081"
        }
        BadAddress::HasSecret => {
            "set schema_registry.user and schema_registry.password, the latter to ${file:PATH} or \
             ${env:NAME}"
        }
        BadAddress::Client(_) => "look at the certificates of this machine",
    };
    let what = format!("schema_registry.url: {err}");
    Box::new(Fault::new(Exit::Usage, "isotherm::query_log::registry", what).remedy(remedy))
}

/// Reads one record after the other, for a person.
pub struct Reader {
    form: Form,
    translator: Translator,
    registry: Option<Registry>,
    unknown: BTreeSet<u32>,
}

impl Reader {
    pub fn open(config: &Config) -> Result<Self, Box<Fault>> {
        let form = form(config)?;
        let registry = access(config).map(|it| Registry::open(&it).map_err(bad_address));
        let (translator, registry) = (Translator::new(&form), registry.transpose()?);
        Ok(Self { form, translator, registry, unknown: BTreeSet::new() })
    }

    /// Asks for the schema of a value, unless it is known or known to be none.
    pub fn learn(&mut self, value: &[u8]) -> Result<(), Away> {
        let (Some(id), Some(registry)) = (self.form.named(value), &self.registry) else {
            return Ok(());
        };
        if self.form.by_id.contains_key(&id) || self.unknown.contains(&id) {
            return Ok(());
        }
        let tries = (1..TRIES).map(|_| registry.ask(id)).find(Result::is_ok);
        match tries.unwrap_or_else(|| registry.ask(id))? {
            Told::Schema(answer) => {
                self.form.learn(id, answer, &|it| it == id);
                self.translator = Translator::new(&self.form);
            }
            Told::Unknown => _ = self.unknown.insert(id),
        }
        Ok(())
    }

    /// Returns a value in our own form.
    pub fn own<'a>(&self, value: &'a [u8], stamp: Millis) -> Result<Cow<'a, [u8]>, Misfit> {
        self.translator.own(value, stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::query_log::{QueryLog, SchemaRegistry};

    fn config(format: Format, schema: &str, url: &str) -> Config {
        let query_log = QueryLog { format, schema: schema.into(), ..QueryLog::default() };
        let schema_registry = SchemaRegistry { url: url.into(), ..SchemaRegistry::default() };
        Config { query_log, schema_registry, ..Config::default() }
    }

    #[test]
    fn registry_is_asked_only_where_schemas_come_from_it() {
        let url = "http://a:8081";
        let asked = |format, schema, url| access(&config(format, schema, url)).is_some();
        assert!(asked(Format::Avro, "", url) && asked(Format::Auto, "", url));
        assert!(!asked(Format::Json, "", url) && !asked(Format::Isotherm, "", url));
        assert!(!asked(Format::Avro, "x.avsc", url) && !asked(Format::Auto, "", ""));
        assert_eq!(form(&config(Format::Auto, "", url)).unwrap().registry.as_deref(), Some(url));
    }

    /// What is told of a configuration that cannot be used.
    fn check(config: &Config, what: &str, remedy: &str) {
        let fault = form(config).unwrap_err();
        assert_eq!(fault.exit, Exit::Usage);
        assert!(fault.what.contains(what), "{}", fault.what);
        assert!(fault.remedy.as_ref().is_some_and(|it| it.contains(remedy)), "{:?}", fault.remedy);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.avsc");
        std::fs::write(&file, "{\"type\": \"thing\"}").unwrap();
        let none = config(Format::Avro, "/not/there.avsc", "");
        check(&none, "query_log.schema: there is no file /not/there.avsc", "a file that is there");
        let bad = config(Format::Avro, file.to_str().unwrap(), "");
        check(&bad, "cannot be used: no Avro schema: ", "set query_log.schema");
        let no_http = config(Format::Auto, "", "registry:8081");
        check(&no_http, "schema_registry.url: `registry:8081` is no address", "http://");
        let secret = config(Format::Auto, "", "http://key:hunter2@registry");
        check(&secret, "has a user or a password in it", "schema_registry.password");
        assert!(!form(&secret).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn schema_on_the_command_line_lets_avro_be_read() {
        let set = [
            ("--schema", "query_log.schema", "x.avsc".to_owned()),
            ("--schema", "query_log.format", "auto".to_owned()),
        ];
        assert_eq!(flags(Some("x.avsc")), set);
        assert_eq!(flags(None), []);
    }
}

//! Fills in secrets by reference, and tells which values must not be printed.
//!
//! * **Nothing secret is printed**: a reference is shown as it stands, a literal behind a key that
//!   sounds secret is masked.

use super::Config;

/// What is shown in place of a secret.
const MASK: &str = "********";

/// Parts of the names of librdkafka properties whose values are secret.
const SECRET: [&str; 6] = ["password", "secret", "passphrase", "token", "jaas", "key.pem"];

/// Where references lead.
pub(super) struct Vault<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: &'a dyn Fn(&str) -> Result<String, String>,
}

/// Sections that may hold secrets.
const SECTIONS: [&str; 2] = ["kafka.", "schema_registry."];

/// Fills in the references of a configuration, or tells (key, reason).
pub(super) fn fill(config: &mut Config, vault: &Vault<'_>) -> Result<(), (String, String)> {
    let Config { kafka, schema_registry: registry, .. } = config;
    let tables = [
        ("kafka.properties", &mut kafka.properties),
        ("kafka.producer.properties", &mut kafka.producer.properties),
        ("kafka.consumer.properties", &mut kafka.consumer.properties),
    ];
    for (table, properties) in tables {
        for (name, value) in properties {
            *value =
                resolved(value, vault).map_err(|reason| (format!("{table}.{name}"), reason))?;
        }
    }
    let values = [
        ("kafka.bootstrap_servers", &mut kafka.bootstrap_servers),
        ("schema_registry.url", &mut registry.url),
        ("schema_registry.user", &mut registry.user),
        ("schema_registry.password", &mut registry.password),
    ];
    for (key, value) in values {
        *value = resolved(value, vault).map_err(|reason| (key.to_owned(), reason))?;
    }
    Ok(())
}

/// Tells whether a key is in a section that may hold secrets.
pub(super) fn may_be_secret(key: &str) -> bool {
    SECTIONS.iter().any(|it| key.starts_with(it))
}

/// Returns a value as it may be printed.
pub(super) fn masked(key: &str, value: &str) -> String {
    let name = key.to_ascii_lowercase();
    let secret = SECRET.iter().any(|it| name.contains(it));
    let reference = value.starts_with("${") && value.find('}') == Some(value.len() - 1);
    if secret && !reference && !value.is_empty() { MASK.into() } else { value.into() }
}

/// Returns the text with every `${env:NAME}` and `${file:PATH}` replaced.
fn resolved(text: &str, vault: &Vault<'_>) -> Result<String, String> {
    let mut res = String::new();
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        let Some((reference, after)) = reference.split_once('}') else {
            return Err("a reference begins with ${ and has no }".into());
        };
        res.push_str(before);
        res.push_str(&match reference.split_once(':') {
            Some(("env", name)) => {
                (vault.env)(name).ok_or_else(|| format!("the environment has no {name}"))?
            }
            Some(("file", path)) => {
                let content =
                    (vault.file)(path).map_err(|it| format!("cannot read {path}: {it}"))?;
                // Files end with a newline, secrets do not.
                content
                    .strip_suffix('\n')
                    .map_or(content.clone(), |it| it.strip_suffix('\r').unwrap_or(it).to_owned())
            }
            Some(_) | None => {
                return Err(format!(
                    "${{{reference}}} is neither ${{env:NAME}} nor ${{file:PATH}}"
                ));
            }
        });
        rest = after;
    }
    res.push_str(rest);
    Ok(res)
}

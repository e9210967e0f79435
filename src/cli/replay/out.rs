//! Writes what the planner of a replay wrote, as JSON lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use serde_json::json;

use crate::cli::keys::KeyFormat;
use crate::cli::values;
use crate::kafka::Output;

/// Writes what the planner wrote, a file a topic, a line a record.
pub struct Out {
    dir: PathBuf,
    files: Mutex<BTreeMap<&'static str, BufWriter<File>>>,
    failed: Mutex<Option<anyhow::Error>>,
}

impl Out {
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), files: Mutex::default(), failed: Mutex::default() })
    }

    pub fn write(&self, outputs: &[Output]) {
        let mut failed = self.failed.lock().expect("nobody panics with it");
        if failed.is_none() {
            *failed = outputs.iter().try_for_each(|it| self.write_one(it)).err();
        }
    }

    fn write_one(&self, output: &Output) -> anyhow::Result<()> {
        let mut files = self.files.lock().expect("nobody panics with it");
        if !files.contains_key(output.topic) {
            let path = self.dir.join(format!("{}.jsonl", output.topic));
            let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
            files.insert(output.topic, BufWriter::new(file));
        }
        let file = files.get_mut(output.topic).expect("it was just made");
        writeln!(file, "{}", line(output)).context("write an output")
    }

    pub fn finish(self) -> anyhow::Result<()> {
        if let Some(err) = self.failed.into_inner().expect("nobody panics with it") {
            return Err(err);
        }
        let files = self.files.into_inner().expect("nobody panics with it");
        files.into_values().try_for_each(|mut it| it.flush()).context("write the outputs")
    }
}

/// A record as `isotherm tail -o jsonl` has it, less what only a broker gives.
fn line(output: &Output) -> String {
    let keys = KeyFormat::default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = output.headers.iter().map(|it| (it.0.to_owned(), text(&it.1).into()));
    let headers: serde_json::Map<String, serde_json::Value> = headers.collect();
    let (key, headers) = (json!(output.key.as_ref().map(|it| keys.bytes(it))), json!(headers));
    let value = values::json(output.topic, output.value.as_deref(), keys);
    format!("{{\"key\":{key},\"headers\":{headers},\"value\":{value}}}")
}

#[cfg(test)]
mod tests {
    use schemas::dead_letter;

    use super::*;

    #[test]
    fn tombstones_keep_their_key_and_dead_letters_their_origin() {
        let gone = Output { value: None, ..Output::new("assignment", b"k".to_vec(), Vec::new()) };
        assert_eq!(line(&gone), r#"{"key":"k","headers":{},"value":null}"#);
        let mut letter = Output::new(dead_letter::TOPIC, b"query_log".to_vec(), vec![1, 255]);
        letter.headers = vec![(dead_letter::HEADER_OFFSET, b"77".to_vec())];
        let told: serde_json::Value = serde_json::from_str(&line(&letter)).unwrap();
        assert_eq!(told["headers"][dead_letter::HEADER_OFFSET], "77");
        assert_eq!(told["value"], keys_of(&[1, 255]));
    }

    fn keys_of(bytes: &[u8]) -> String {
        KeyFormat::default().bytes(bytes)
    }
}

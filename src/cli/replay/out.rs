//! Writes the files of a replay: what its planner wrote, as JSON lines; the report; the picture.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use serde_json::json;
use tempfile::{Builder, NamedTempFile};

use crate::cli::exit::{Exit, Fault};
use crate::cli::keys::KeyFormat;
use crate::cli::values;
use crate::kafka::Output;

/// A file for a result. It is made before the work that leads to the result: what cannot be written
/// shows at once. What was there before stays until the result is there.
pub struct ResultFile {
    path: PathBuf,
    file: Written,
}

enum Written {
    /// Beside it, until it is whole.
    Beside(NamedTempFile),
    /// What is no plain file, such as a pipe, is not replaced.
    There(File),
}

impl ResultFile {
    /// # Errors
    /// `isotherm::result_file`, if the file cannot be made, or has no name.
    pub fn create(path: &Path) -> Result<Self, Box<Fault>> {
        let refused = |why: &str, remedy: &str| {
            let what = format!("make {}: {why}", path.display());
            Box::new(Fault::new(Exit::Usage, "isotherm::result_file", what).remedy(remedy))
        };
        if path == Path::new("-") {
            return Err(refused("it is the name of no file", "/dev/stdout is standard output"));
        }
        let is_plain = path.symlink_metadata().map_or(true, |it| it.is_file());
        let dir = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
        let made = match is_plain {
            true => Builder::new()
                .prefix(".isotherm-")
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(dir)
                .map(Written::Beside),
            false => File::options().write(true).open(path).map(Written::There),
        };
        match made {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(err) => Err(refused(
                &err.kind().to_string(),
                "give a file in a folder that is there, and that can be written",
            )),
        }
    }

    pub fn write(self, text: &str) -> anyhow::Result<()> {
        let failed = || format!("write {}", self.path.display());
        match self.file {
            Written::Beside(mut file) => {
                file.write_all(text.as_bytes()).with_context(failed)?;
                file.persist(&self.path).with_context(failed)?;
            }
            Written::There(mut file) => file.write_all(text.as_bytes()).with_context(failed)?,
        }
        Ok(())
    }
}

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

    #[test]
    fn result_replaces_what_was_there_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        std::fs::write(&path, "of before").unwrap();
        drop(ResultFile::create(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of before");
        ResultFile::create(&path).unwrap().write("result").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "result");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // A pipe, or standard output.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        ResultFile::create(&link).unwrap().write("result").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        for wrong in [Path::new("-"), &dir.path().join("none/report.json")] {
            let fault = ResultFile::create(wrong).err().unwrap();
            assert!(fault.remedy.is_some(), "{fault:?}");
        }
    }

    fn keys_of(bytes: &[u8]) -> String {
        KeyFormat::default().bytes(bytes)
    }
}

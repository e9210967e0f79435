//! Writes the files of a replay: what its planner wrote, as JSON lines; the report; the picture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;

use crate::cli::keys::KeyFormat;
use crate::cli::values;
use crate::kafka::Output;

/// A file for a result. It is made before the work that leads to the result: what cannot be written
/// shows at once.
pub struct ResultFile {
    path: PathBuf,
    file: File,
}

impl ResultFile {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub fn write(mut self, text: &str) -> anyhow::Result<()> {
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("write {}", self.path.display()))
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
        let value = output.value.as_deref();
        let line = values::json(output.topic, value, KeyFormat::default());
        writeln!(file, "{line}").context("write an output")
    }

    pub fn finish(self) -> anyhow::Result<()> {
        if let Some(err) = self.failed.into_inner().expect("nobody panics with it") {
            return Err(err);
        }
        let files = self.files.into_inner().expect("nobody panics with it");
        files.into_values().try_for_each(|mut it| it.flush()).context("write the outputs")
    }
}

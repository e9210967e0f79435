//! Writes a report, a picture or a model where a person wants it, as a whole or not at all.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::{Builder, NamedTempFile};

use super::exit::{Exit, Fault};

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
            Box::new(Fault::new(Exit::Failed, "isotherm::result_file", what).remedy(remedy))
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

    pub fn write(self, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let content = content.as_ref();
        let failed = || format!("write {}", self.path.display());
        match self.file {
            Written::Beside(mut file) => {
                file.write_all(content).with_context(failed)?;
                file.persist(&self.path).with_context(failed)?;
            }
            Written::There(mut file) => file.write_all(content).with_context(failed)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

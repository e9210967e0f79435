//! Reads a panel from a file: a table of numbers below a header, that zstd compressed.

use std::fmt;
use std::io::Read;
use std::path::Path;

use zstd::stream::read::Decoder;

use crate::cli::exit::{Exit, Fault};
use crate::cli::named;
use crate::forecast::panel::Panel;

/// No panel is larger than this once it is unpacked.
const BYTES_MAX: usize = 1 << 30;

pub fn read(path: &Path, bin_ms: u64) -> Result<Panel, Box<Fault>> {
    read_within(BYTES_MAX, path, bin_ms)
}

fn read_within(bytes_max: usize, path: &Path, bin_ms: u64) -> Result<Panel, Box<Fault>> {
    const CODE: &str = "isotherm::panel::file";
    let wrong = |reason: &dyn fmt::Display, remedy: &str| {
        let what = format!("{} is no panel: {reason}", path.display());
        Box::new(Fault::new(Exit::Usage, CODE, what).remedy(remedy))
    };
    let unpacked = "a panel is a table of numbers below a header, that zstd compressed";
    let bytes = std::fs::read(path).map_err(|error| named::unread(CODE, path, &error))?;
    let decoder = Decoder::new(&bytes[..]).map_err(|error| wrong(&error, unpacked))?;
    let mut text = Vec::new();
    // One more than there may be tells that there is more.
    let mut limited = decoder.take(bytes_max as u64 + 1);
    limited.read_to_end(&mut text).map_err(|error| wrong(&error, unpacked))?;
    if bytes_max < text.len() {
        let reason = format!("unpacked it has more than {bytes_max} bytes");
        return Err(wrong(&reason, "give a shorter one, or one of longer bins or fewer ranges"));
    }
    let text = String::from_utf8(text).map_err(|error| wrong(&error, unpacked))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    Panel::parse(name, bin_ms, &text).map_err(|error| wrong(&error, unpacked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panel_that_is_too_large_is_refused_and_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small.csv.zst");
        let table = "r0,w0\n".to_owned() + &"1,2\n".repeat(100);
        std::fs::write(&path, zstd::encode_all(table.as_bytes(), 3).unwrap()).unwrap();
        assert_eq!(read_within(table.len(), &path, 1_000).unwrap().bins.len(), 100);
        // Cut behind a line it would be a panel, too.
        let fault = read_within(table.len() - 4, &path, 1_000).err().unwrap();
        assert_eq!((fault.exit, fault.code.as_str()), (Exit::Usage, "isotherm::panel::file"));
        assert!(fault.what.contains("more than 402 bytes"), "{fault}");
        assert!(fault.remedy.is_some());
    }
}

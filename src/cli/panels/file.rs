//! Reads a panel from a file: a table of numbers below a header, that zstd compressed.

use std::path::Path;

use crate::cli::exit::{Exit, Fault};
use crate::forecast::panel::Panel;

/// No panel is larger than this once it is unpacked.
const BYTES_MAX: usize = 1 << 30;

pub fn read(path: &Path, bin_ms: u64) -> Result<Panel, Box<Fault>> {
    let file = path.display();
    let wrong = |reason: &dyn std::fmt::Display, remedy: &str| {
        let fault = Fault::new(
            Exit::Usage,
            "isotherm::panel::file",
            format!("{file} is no panel: {reason}"),
        );
        Box::new(fault.remedy(remedy))
    };
    let unpacked = "a panel is a table of numbers below a header, that zstd compressed";
    let bytes =
        std::fs::read(path).map_err(|error| wrong(&error, "name a file that can be read"))?;
    let mut decoder =
        zstd::stream::read::Decoder::new(&bytes[..]).map_err(|error| wrong(&error, unpacked))?;
    let mut text = String::new();
    let mut limited = std::io::Read::take(&mut decoder, BYTES_MAX as u64);
    std::io::Read::read_to_string(&mut limited, &mut text)
        .map_err(|error| wrong(&error, unpacked))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    Panel::parse(name, bin_ms, &text).map_err(|error| wrong(&error, unpacked))
}

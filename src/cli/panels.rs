//! Reads the panels that a command names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Fault};
use crate::forecast::panel::Panel;

/// No panel is larger than this once it is unpacked.
const BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Debug, Args)]
pub struct PanelArgs {
    /// A panel: load per range and bin (r0,r1,…,w0,w1,… a line a bin); may be given several times
    #[arg(long, required = true, value_name = "FILE.csv.zst")]
    pub panel: Vec<PathBuf>,
    /// How long a bin is: one for all panels, or one for each in their order
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "10s")]
    pub bin: Vec<Duration>,
}

impl PanelArgs {
    /// Reads them all, in their order.
    pub fn read(&self) -> Result<Vec<Panel>, Box<Fault>> {
        let (panels, bins) = (self.panel.len(), self.bin.len());
        if bins != 1 && bins != panels {
            let what = format!("{bins} --bin for {panels} --panel");
            let remedy = "give one --bin for all panels, or one for each, in their order";
            let fault = Fault::new(Exit::Usage, "isotherm::panel::bins", what);
            return Err(Box::new(fault.remedy(remedy)));
        }
        let bin = |at: usize| if bins == 1 { self.bin[0] } else { self.bin[at] };
        self.panel.iter().enumerate().map(|(at, path)| read(path, bin(at))).collect()
    }
}

fn read(path: &Path, bin: Duration) -> Result<Panel, Box<Fault>> {
    let file = path.display();
    let bin_ms = u64::try_from(bin.as_millis()).unwrap_or(u64::MAX);
    let wrong = |reason: &dyn std::fmt::Display, remedy: &str| {
        let fault = Fault::new(
            Exit::Usage,
            "isotherm::panel::file",
            format!("{file} is no panel: {reason}"),
        );
        Box::new(fault.remedy(remedy))
    };
    if bin_ms == 0 || 86_400_000 < bin_ms {
        return Err(wrong(&"a bin of less than 1 ms or more than a day", "give --bin 10s, or 1m"));
    }
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

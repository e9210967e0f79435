//! Tells how load does while it is played: a line that changes on a terminal, else one every ten per cent.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::told::brief;
use crate::load::driver::Status;

pub struct Progress {
    bar: ProgressBar,
    length: Duration,
    tenth: u128,
}

impl Progress {
    /// Of load that is so long.
    pub fn new(length: Duration) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(length.as_millis() as u64),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:20} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        Self { bar, length, tenth: 0 }
    }

    pub fn told(&mut self, status: &Status) {
        let line = self.line(status);
        self.bar.set_message(line.clone());
        self.bar.set_position(status.since_start.as_millis() as u64);
        let (since, length) = (status.since_start.as_millis(), self.length.as_millis().max(1));
        let tenth = (since * 10 / length).min(10);
        if self.bar.is_hidden() && self.tenth < tenth {
            self.tenth = tenth;
            eprintln!("{:>3} %  {line}", tenth * 10);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, status: &Status) -> String {
        let Status { since_start, under_way, all, recent, .. } = status;
        let (since, length) = (since_start.as_secs(), self.length.as_secs());
        let answered = recent.answered();
        let quantile = |part| answered.quantile(part).map_or("-".into(), brief);
        let end = match *since_start < self.length {
            true => String::new(),
            false => format!("  {under_way} under way"),
        };
        format!(
            "{since} of {length} s  reads {:.0}/s  p50 {}  p99 {}  repeated {}  failed {}  updates {:.0}/s{end}",
            status.per_s(recent.reads),
            quantile(0.5),
            quantile(0.99),
            all.repeats,
            all.reads_failed(),
            status.per_s(recent.updates.count()),
        )
    }
}

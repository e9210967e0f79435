//! Sends spans to a collector, and counts those that it does not get.
//!
//! * **A collector that is away holds nobody up**: what waits is bounded, and what is beyond it is lost. That
//!   it is away is said once, and that it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{info, warn};

use super::metrics;

#[derive(Debug)]
pub(super) struct Exporter {
    otlp: Otlp,
    away: AtomicBool,
}

impl Exporter {
    pub fn new(otlp: Otlp) -> Self {
        Self { otlp, away: AtomicBool::new(false) }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        match self.otlp.export(batch).await {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    info!("the collector takes spans again");
                }
            }
            Err(err) => {
                metrics::get().spans_lost.add(count, &[]);
                if !self.away.swap(true, Ordering::Relaxed) {
                    warn!(%err, "the collector takes no spans: they are lost; all else goes on");
                }
            }
        }
        // The SDK would say it each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

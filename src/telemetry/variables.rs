//! Reads the `OTEL_*` variables that the SDK leaves to whoever sets it up.
//!
//! ```text
//!  OTEL_SDK_DISABLED ─────────> nothing is exported
//!  OTEL_TRACES_EXPORTER  ─┐ otlp, none; unset: otlp where an endpoint is set
//!  OTEL_METRICS_EXPORTER ─┘
//!  OTEL_PROPAGATORS ──────────> tracecontext, none
//!  OTEL_EXPORTER_OTLP_…_PROTOCOL ──> http/protobuf
//! ```
//!
//! The endpoint itself, headers, time-outs, sampler, queue, limits and resource are read by the SDK.
//!
//! * **What is not understood is told, and stops nothing.**

/// What is exported, and carried along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    pub traces: bool,
    pub metrics: bool,
    /// Contexts are read from records and requests, and written to them.
    pub propagates: bool,
    /// What cannot be done as it is asked for.
    pub warnings: Vec<String>,
}

impl Variables {
    /// Reads them by a function that returns the value of one; an empty value is none.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let mut res = Self { propagates: true, ..Self::default() };
        if get("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return res;
        }
        if let Some(asked) = get("OTEL_PROPAGATORS") {
            res.propagates = res.propagators(&asked);
        }
        res.traces = res.exports("TRACES", &get);
        res.metrics = res.exports("METRICS", &get);
        // One variable may be of both.
        res.warnings.dedup();
        res
    }

    fn propagators(&mut self, asked: &str) -> bool {
        let mut propagates = false;
        for it in asked.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            match it {
                "tracecontext" => propagates = true,
                // There is nothing of ours in it.
                "none" | "baggage" => (),
                it => self.warnings.push(format!(
                    "OTEL_PROPAGATORS names `{it}`, which is not known here: set tracecontext or none"
                )),
            }
        }
        propagates
    }

    fn exports(&mut self, signal: &str, get: &impl Fn(&str) -> Option<String>) -> bool {
        let of_signal = |what: &str| {
            let names = [
                format!("OTEL_EXPORTER_OTLP_{signal}_{what}"),
                format!("OTEL_EXPORTER_OTLP_{what}"),
            ];
            names.into_iter().find_map(|name| Some((get(&name)?, name)))
        };
        let name = format!("OTEL_{signal}_EXPORTER");
        let is_asked = match get(&name).as_deref() {
            Some("otlp") => true,
            Some("none") => false,
            None => of_signal("ENDPOINT").is_some(),
            Some(it) => {
                self.warnings.push(format!(
                    "{name} is `{it}`, which is not known here: set otlp or none; nothing is exported"
                ));
                false
            }
        };
        match of_signal("PROTOCOL") {
            Some((it, name)) if is_asked && it != "http/protobuf" => {
                self.warnings.push(format!(
                    "{name} is `{it}`, which is not spoken here: set http/protobuf, and the port for that \
                     (4318, as a rule); nothing is exported"
                ));
                false
            }
            Some(_) | None => is_asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these, as `traces metrics propagates`, and of how many there are warnings.
    fn check(set: &[(&str, &str)], expected: [bool; 3], warnings: usize) {
        let get = |name: &str| set.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        let it = Variables::read(get);
        assert_eq!([it.traces, it.metrics, it.propagates], expected, "{set:?}");
        assert_eq!(it.warnings.len(), warnings, "{set:?} {:?}", it.warnings);
    }

    #[test]
    fn nothing_is_exported_unless_it_is_asked_for() {
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        check(&[], [false, false, true], 0);
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], [false, false, true], 0);
        check(&[at], [true, true, true], 0);
        check(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x")], [true, false, true], 0);
        check(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://x")], [false, true, true], 0);
        check(&[("OTEL_TRACES_EXPORTER", "otlp")], [true, false, true], 0);
        check(&[at, ("OTEL_TRACES_EXPORTER", "none")], [false, true, true], 0);
        check(&[at, ("OTEL_METRICS_EXPORTER", "none")], [true, false, true], 0);
        check(&[at, ("OTEL_SDK_DISABLED", "TRUE")], [false, false, true], 0);
        check(&[at, ("OTEL_SDK_DISABLED", "false")], [true, true, true], 0);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        check(&[at, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], [false, false, true], 1);
        check(&[at, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")], [false, true, true], 1);
        check(&[at, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], [true, true, true], 0);
        check(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], [false, false, true], 0);
        check(&[at, ("OTEL_TRACES_EXPORTER", "zipkin")], [false, true, true], 1);
        check(&[at, ("OTEL_PROPAGATORS", "none")], [true, true, false], 0);
        check(&[at, ("OTEL_PROPAGATORS", "tracecontext, baggage")], [true, true, true], 0);
        check(&[at, ("OTEL_PROPAGATORS", "b3")], [true, true, false], 1);
    }
}

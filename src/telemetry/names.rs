//! Names what spans say of themselves, once. Metrics are named in `metrics`.
//!
//! What OpenTelemetry has a name for is called that, as of its conventions 1.42.

/// Of messaging.
pub const SYSTEM: &str = "messaging.system";
pub const DESTINATION: &str = "messaging.destination.name";
pub const PARTITION: &str = "messaging.destination.partition.id";
pub const OPERATION: &str = "messaging.operation.name";
pub const OPERATION_TYPE: &str = "messaging.operation.type";
pub const OFFSET: &str = "messaging.kafka.offset";

/// Of HTTP.
pub const METHOD: &str = "http.request.method";
pub const ROUTE: &str = "http.route";
pub const STATUS_CODE: &str = "http.response.status_code";
pub const PATH: &str = "url.path";
pub const SERVER: &str = "server.address";

/// Our own. Keys and ranges are on spans and in logs only, never on metrics.
pub const PLAN: &str = "isotherm.plan";
pub const DIGEST: &str = "isotherm.plan.digest";
pub const TICK: &str = "isotherm.tick";
pub const MOVES: &str = "isotherm.moves";
pub const MIGRATION: &str = "isotherm.migration";
pub const RANGE_START: &str = "isotherm.range.start";
pub const RANGE_END: &str = "isotherm.range.end";
pub const NODE: &str = "isotherm.node";
pub const SOURCE_NODE: &str = "isotherm.source.node";
pub const DESTINATION_NODE: &str = "isotherm.destination.node";
pub const GENERATION: &str = "isotherm.generation";
pub const COMMAND: &str = "isotherm.command";
pub const STATUS: &str = "isotherm.status";
pub const PHASE: &str = "isotherm.phase";
pub const STREAM: &str = "isotherm.stream";
pub const SEQ: &str = "isotherm.segment.seq";
pub const KIND: &str = "isotherm.segment.kind";
pub const BYTES: &str = "isotherm.bytes";
/// How many segments there were, those among them that are no events.
pub const SEGMENTS: &str = "isotherm.segments";
/// The process had to be started again since this began.
pub const RESUMED: &str = "isotherm.resumed";
pub const READS: &str = "isotherm.reads";
pub const QUERIES: &str = "isotherm.queries";
/// Traces that a batch belongs to and has no link to.
pub const UNLINKED: &str = "isotherm.links.left_out";

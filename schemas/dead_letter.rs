//! The bytes that could not be used, as they came; where they came from and why stands in headers.

/// The topic, without the configured prefix. Its values are any bytes, so there is no record type.
pub const TOPIC: &str = "dead_letter";

/// Headers of a dead letter. Values are UTF-8 text.
pub const HEADER_TOPIC: &str = "isotherm.topic";
pub const HEADER_PARTITION: &str = "isotherm.partition";
pub const HEADER_OFFSET: &str = "isotherm.offset";
/// A stable code, such as `unknown_schema`.
pub const HEADER_REASON: &str = "isotherm.reason";
/// The reason in words, with numbers.
pub const HEADER_DETAIL: &str = "isotherm.detail";

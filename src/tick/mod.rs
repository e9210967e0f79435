//! Cuts the logs of Kafka into ticks: which records are in which, as intervals of offsets.

pub mod tick_box;
pub mod rules;
pub mod future;
pub mod machine;

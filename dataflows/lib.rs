//! Says how collections become collections: from queries to heat, from forecasts to the plan's delta.
//!
//! No clock, no I/O, no model weights: what a dataflow cannot derive from its input collections
//! arrives as an argument.

pub mod heat;
pub mod quanta;
pub mod forecast;
pub mod balance;
pub mod splits;
pub mod samples;
pub mod cells;

/// Event time in whole ticks since the epoch, and the timestamp of every collection in this crate.
pub type Tick = u64;

/// A collection whose differences are plain counts.
pub type Rows<'scope, D> = differential_dataflow::VecCollection<'scope, Tick, D, isize>;

/// A collection of cells, with what they were asked at a tick in the difference.
pub type Sums<'scope> =
    differential_dataflow::VecCollection<'scope, Tick, schemas::CellId, heat::Heat>;

/// A collection of `D`, with its heat over all rolling windows in the difference.
pub type Rolls<'scope, D> = differential_dataflow::VecCollection<'scope, Tick, D, heat::Rolling>;

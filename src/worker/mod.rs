//! Holds ranges of the index, and serves reads of them.
//!
//! ```text
//!  assignment, commands, inbox, table ──> machine ──> writes ──> store ──> outcomes ──┐
//!  reads ──> serving ──> answers            ^ └─> records, promises, the view          │
//!                                           └──────────────────────────────────────────┘
//! ```

pub mod serving;
pub mod events;
pub mod states;
pub mod machine;
mod queue;
mod queues;
mod roles;
mod updates;
mod import;
mod drain;
mod outgoing;
mod rebuild;
mod words;
pub mod step;
pub mod service;
pub mod ease;
pub mod records;
pub mod report;
pub mod gauge;
pub mod options;
pub mod driver;

//! Keeps a range-partitioned index evenly warm: everything that has a process around it, in the
//! order data flows.

pub mod topics;
pub mod keys;
pub mod table;
pub mod foreign;
pub mod counts;
pub mod queries;
pub mod fail_points;
pub mod svg;
pub mod tick;
pub mod kafka;
pub mod forecast;
pub mod assignment;
pub mod migration;
pub mod planner;
pub mod channel;
pub mod store;
pub mod transfer;
pub mod worker;
pub mod router;
pub mod replay;
pub mod load;
pub mod verify;
pub mod demo;
pub mod config;
pub mod telemetry;
pub mod web;
pub mod cli;

//! Turns queries and capacities into plans, tick by tick.

pub mod fleet;

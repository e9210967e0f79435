//! What only shows when processes and brokers take part, and checks of the tree itself; one binary,
//! because each one links anew.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod tidy;
mod kafka;
mod replay;
mod forecast;
mod cli;
mod world;
mod evidence;
mod planner;
mod killed;
mod bad_input;
mod foreign;
mod moved;
mod cancelled;
mod verified;
mod away;
mod channel;
mod envelope;
mod router;
mod load;
mod index;
mod demo;
mod rolling;
mod balanced;
mod rights;
mod worker;
mod traced;
mod sim;

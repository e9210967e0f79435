//! What only shows when processes and brokers take part, and checks of the tree itself; one binary,
//! because each one links anew.

mod tidy;
mod kafka;
mod cli;

//! What only shows when processes and brokers take part.

mod kafka;

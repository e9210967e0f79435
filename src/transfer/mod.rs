//! Carries a range from source to destination: what a segment holds, and what each side makes of it.
//!
//! ```text
//!  source                                             destination
//!  snapshot ── sender ── OPEN DATA … END … HANDOVER ──> receiver ── writes
//!  changes ───────┘ ^                                      │
//!                   └────────── ack: stream, seq, credit ──┘
//! ```

pub mod digest;
pub mod segment;
pub mod sender;
pub mod receiver;

//! Black-box tests and the checks of the tree itself; one binary, because each one links anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tidy;

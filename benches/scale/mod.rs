//! Says how much a benchmark does.

/// Tells whether it is to run at all: `cargo test --benches` runs it, too, and it is no test.
pub fn is_asked() -> bool {
    std::env::args().any(|it| it == "--bench")
}

/// With `-- smoke` it does so little that it shows that it runs, and no more.
pub fn or_smoke<T>(full: T, smoke: T) -> T {
    if std::env::args().any(|it| it == "smoke") { smoke } else { full }
}

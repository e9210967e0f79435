use clap::Parser;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What is free goes back to the system within a second, by a thread of its own; and threads share few arenas,
/// as each keeps some of what is free.
#[expect(non_upper_case_globals, reason = "jemalloc looks for this name")]
#[unsafe(export_name = "malloc_conf")]
pub static malloc_conf: &[u8] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4\0";

fn main() {
    isotherm::cli::main(isotherm::cli::Cli::parse()).leave()
}

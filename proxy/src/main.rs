//! The program `outrigger-proxy`.

use std::process::ExitCode;

/// Requests allocate and free small things on several threads at once, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outrigger_proxy::run::main(std::env::args_os())
}

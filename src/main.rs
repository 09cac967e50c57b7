//! The binary: its allocator, and the command line of the library.

use std::process::ExitCode;

/// A query allocates thousands of small objects; glibc's allocator took a sixth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sortie::app::cli::main()
}

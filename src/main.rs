//! The binary: everything is in the library.

use std::process::ExitCode;

/// A daemon that makes and drops small things on several threads spends a sixth of
/// its time in glibc's allocator, which also hands memory back and forth to the
/// kernel at every commit; musl's is slower still. Without huge pages: they would
/// double what an idle daemon holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    posthaste::cli::main()
}

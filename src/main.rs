//! The binary: everything is in the library.

use std::process::ExitCode;

/// A daemon that makes and drops small things on several threads spends a sixth of
/// its time in glibc's allocator, which also hands memory back and forth to the
/// kernel at every commit; musl's is slower still. This one gives each thread again
/// what it let go of last, wherever that was made: it is still in the processor's cache.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Where the system gives them to everybody, an idle daemon holds more memory. A kernel that
    // cannot leave them out is no reason to stop.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    posthaste::cli::main()
}

//! See `posthaste::fuzzing::retry_after`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::retry_after(bytes));

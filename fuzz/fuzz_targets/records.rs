//! See `posthaste::fuzzing::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::records(bytes));

//! See `posthaste::fuzzing::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::configuration(bytes));

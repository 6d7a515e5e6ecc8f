//! See `posthaste::fuzzing::templates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::templates(bytes));

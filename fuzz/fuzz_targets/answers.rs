//! See `posthaste::fuzzing::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::answers(bytes));

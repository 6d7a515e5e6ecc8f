//! See `posthaste::fuzzing::url_policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthaste::fuzzing::url_policy(bytes));

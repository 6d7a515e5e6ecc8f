//! See `posthaste::fuzzing::Api::queries`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use posthaste::fuzzing::Api;

/// Inputs that one daemon is asked with: more, and its store would grow on.
const INPUTS_MAX: u32 = 2000;

thread_local! {
    static API: RefCell<Option<(Api, tempfile::TempDir, u32)>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    API.with_borrow_mut(|held| {
        if held.as_ref().is_some_and(|(_, _, used)| *used == INPUTS_MAX) {
            *held = None;
        }
        let (api, _, used) = held.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a folder");
            (Api::new(folder.path()), folder, 0)
        });
        *used += 1;
        let _ = api.queries(bytes);
    });
});

//! Futures on the heap, for where one is made for every request or attempt.

use std::pin::Pin;

/// The future that `make` makes. `Box::pin` has it made on the stack and then moves all of it,
/// and most of a large one is room that it does not need yet. Here the compiler knows where it
/// will stay, and a release makes it there; nothing but speed depends on that.
#[inline]
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

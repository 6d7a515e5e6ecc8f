//! Futures on the heap, for where one is made for every request or attempt.

use std::pin::Pin;

/// The future that `make` makes, made where it stays. `Box::pin` has it made on the stack and
/// then moves all of it, and most of a large one is room that it does not need yet.
#[inline]
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

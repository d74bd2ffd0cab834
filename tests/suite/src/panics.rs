//! Watching panics and drops.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message with which `body` panics. Panics if it does not.
pub(crate) fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("this should have panicked"),
        Err(payload) => message(payload.as_ref()),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(ToString::to_string);
    literal
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .expect("the payload of `panic!` is text")
}

/// Calls a closure when it is dropped.
pub(crate) struct OnDrop<F: Fn() -> R, R = usize>(pub(crate) F);

impl<F: Fn() -> R, R> Drop for OnDrop<F, R> {
    fn drop(&mut self) {
        (self.0)();
    }
}

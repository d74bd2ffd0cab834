//! Watching panics and drops.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

/// The message with which `body` panics. Panics if it does not.
pub(crate) fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    match caught(body) {
        Ok(_) => panic!("this should have panicked"),
        Err(message) => message,
    }
}

/// What `body` gives, or the message with which it panics.
pub(crate) fn caught<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| message(payload.as_ref()))
}

/// Keeps panics that tell of a deadlock from being printed, by this process from here on: for tests that want thousands.
pub(crate) fn silence_deadlocks() {
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>();
        if !message.is_some_and(|message| message.starts_with("deadlock:")) {
            print(panic);
        }
    }));
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

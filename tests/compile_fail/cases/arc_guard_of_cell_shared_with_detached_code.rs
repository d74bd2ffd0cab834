//! A guard that owns a reference to its mutex may be shared with code that runs detached, since nothing can be
//! unlocked through a shared one, but only if the data may be.
//@ error: E0277

#[cfg(feature = "fail")]
use std::cell::Cell;

use pyo3::Python;
use pyo3_sync::ArcPyMutexGuard;

#[cfg(not(feature = "fail"))]
type Cell<T> = std::sync::Mutex<T>;

pub fn case(py: Python<'_>, guard: ArcPyMutexGuard<'_, Cell<i32>>) {
    let guard = &guard;
    py.detach(|| use_it(guard));
}

fn use_it(_: &Cell<i32>) {}

//! While a thread waits another one may change the data so that the part is not there any more.
//@ error: E0308

use pyo3_sync::{MappedPyMutexGuard, PyCondvar, PyMutexGuard};

#[cfg(feature = "fail")]
pub type Guard<'a> = MappedPyMutexGuard<'a, i32>;
#[cfg(not(feature = "fail"))]
pub type Guard<'a> = PyMutexGuard<'a, i32>;

pub fn case(
    condvar: &PyCondvar,
    guard: &mut Guard<'_>,
    _: &mut PyMutexGuard<'_, i32>,
    _: &mut MappedPyMutexGuard<'_, i32>,
) {
    condvar.wait(guard);
}

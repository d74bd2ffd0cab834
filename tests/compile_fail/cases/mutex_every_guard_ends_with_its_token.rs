//! A guard lives no longer than its token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 15

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pyo3::Python;
use pyo3_sync::*;

/// In the program that fails the guard lives as long as the lock is borrowed, whatever the token does.
macro_rules! ways {
    ($type:ty; $($name:ident: $guard:ident = |$lock:ident, $py:ident| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name<'lock, 'py>($lock: &'lock $type, $py: Python<'py>) -> Option<$guard<'lock, i32>> {
                $way
            }
            #[cfg(not(feature = "fail"))]
            pub fn $name<'py>($lock: &'py $type, $py: Python<'py>) -> Option<$guard<'py, i32>> {
                $way
            }
        )*
    };
}

ways! {
    PyMutex<i32>;
    lock: PyMutexGuard = |lock, py| Some(lock.lock(py));
    lock_py_attached: PyMutexGuard = |lock, py| Some(lock.lock(py));
    lock_checked: PyMutexGuard = |lock, py| lock.lock_checked(py).ok();
    lock_interruptible: PyMutexGuard = |lock, py| lock.lock_with(py, Wait::new().interruptible()).ok();
    lock_poisonable: PyMutexGuard = |lock, py| lock.lock_poisonable(py).ok();
    try_lock: PyMutexGuard = |lock, py| lock.try_lock(py);
    try_lock_for: PyMutexGuard = |lock, py| lock.lock_with(py, Duration::ZERO);
    try_lock_until: PyMutexGuard = |lock, py| lock.lock_with(py, Instant::now());
    recover_abandoned: PyMutexGuard = |lock, py| {
        // SAFETY: an integer is whole, and nobody lends it.
        unsafe { lock.recover_abandoned(py) }
    };
}

ways! {
    Arc<PyMutex<i32>>;
    lock_arc: ArcPyMutexGuard = |lock, py| Some(PyMutex::lock_arc(lock, py));
    lock_arc_checked: ArcPyMutexGuard = |lock, py| PyMutex::lock_arc_checked(lock, py).ok();
    lock_arc_interruptible: ArcPyMutexGuard = |lock, py| PyMutex::lock_arc_interruptible(lock, py).ok();
    try_lock_arc: ArcPyMutexGuard = |lock, py| PyMutex::try_lock_arc(lock, py);
    try_lock_arc_for: ArcPyMutexGuard = |lock, py| PyMutex::try_lock_arc_for(lock, py, Duration::ZERO);
    try_lock_arc_until: ArcPyMutexGuard = |lock, py| PyMutex::try_lock_arc_until(lock, py, Instant::now());
}

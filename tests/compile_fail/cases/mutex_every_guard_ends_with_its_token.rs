//! A guard lives no longer than its token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 7

use std::sync::Arc;

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
    lock_checked: PyMutexGuard = |lock, py| lock.lock_checked(py).ok();
    lock_with: PyMutexGuard = |lock, py| lock.lock_with(py, Wait::new()).ok();
    try_lock: PyMutexGuard = |lock, py| lock.try_lock(py);
    recover_abandoned: PyMutexGuard = |lock, py| {
        // SAFETY: an integer is whole, and nobody lends it.
        unsafe { lock.recover_abandoned(py) }
    };
}

ways! {
    Arc<PyMutex<i32>>;
    lock_arc: ArcPyMutexGuard = |lock, py| Some(PyMutex::lock_arc(lock, py));
    into_arc: ArcPyMutexGuard = |lock, py| Some(PyMutexGuard::into_arc(lock.lock(py), lock, py));
}

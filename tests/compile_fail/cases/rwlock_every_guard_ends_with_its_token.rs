//! A guard lives no longer than its token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 13

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
    PyRwLock<i32>;
    read: PyRwLockReadGuard = |lock, py| Some(lock.read(py));
    read_checked: PyRwLockReadGuard = |lock, py| lock.read_checked(py).ok();
    read_with: PyRwLockReadGuard = |lock, py| lock.read_with(py, Wait::new()).ok();
    try_read: PyRwLockReadGuard = |lock, py| lock.try_read(py);
    write: PyRwLockWriteGuard = |lock, py| Some(lock.write(py));
    write_checked: PyRwLockWriteGuard = |lock, py| lock.write_checked(py).ok();
    write_with: PyRwLockWriteGuard = |lock, py| lock.write_with(py, Wait::new()).ok();
    try_write: PyRwLockWriteGuard = |lock, py| lock.try_write(py);
    recover_abandoned: PyRwLockWriteGuard = |lock, py| {
        // SAFETY: an integer is whole, and nobody lends it.
        unsafe { lock.recover_abandoned(py) }
    };
}

ways! {
    Arc<PyRwLock<i32>>;
    read_arc: ArcPyRwLockReadGuard = |lock, py| Some(PyRwLock::read_arc(lock, py));
    read_into_arc: ArcPyRwLockReadGuard = |lock, py| {
        Some(PyRwLockReadGuard::into_arc(lock.read(py), lock, py))
    };
    write_arc: ArcPyRwLockWriteGuard = |lock, py| Some(PyRwLock::write_arc(lock, py));
    write_into_arc: ArcPyRwLockWriteGuard = |lock, py| {
        Some(PyRwLockWriteGuard::into_arc(lock.write(py), lock, py))
    };
}

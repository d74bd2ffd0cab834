//! A guard lives no longer than its token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 29

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
    PyRwLock<i32>;
    read: PyRwLockReadGuard = |lock, py| Some(lock.read(py));
    read_py_attached: PyRwLockReadGuard = |lock, py| Some(lock.read(py));
    read_checked: PyRwLockReadGuard = |lock, py| lock.read_checked(py).ok();
    read_interruptible: PyRwLockReadGuard = |lock, py| lock.read_with(py, Wait::new().interruptible()).ok();
    read_poisonable: PyRwLockReadGuard = |lock, py| lock.read_poisonable(py).ok();
    try_read: PyRwLockReadGuard = |lock, py| lock.try_read(py);
    try_read_for: PyRwLockReadGuard = |lock, py| lock.read_with(py, Duration::ZERO);
    try_read_until: PyRwLockReadGuard = |lock, py| lock.read_with(py, Instant::now());
    write: PyRwLockWriteGuard = |lock, py| Some(lock.write(py));
    write_py_attached: PyRwLockWriteGuard = |lock, py| Some(lock.write(py));
    write_checked: PyRwLockWriteGuard = |lock, py| lock.write_checked(py).ok();
    write_interruptible: PyRwLockWriteGuard = |lock, py| lock.write_with(py, Wait::new().interruptible()).ok();
    write_poisonable: PyRwLockWriteGuard = |lock, py| lock.write_poisonable(py).ok();
    try_write: PyRwLockWriteGuard = |lock, py| lock.try_write(py);
    try_write_for: PyRwLockWriteGuard = |lock, py| lock.write_with(py, Duration::ZERO);
    try_write_until: PyRwLockWriteGuard = |lock, py| lock.write_with(py, Instant::now());
    recover_abandoned: PyRwLockWriteGuard = |lock, py| {
        // SAFETY: an integer is whole, and nobody lends it.
        unsafe { lock.recover_abandoned(py) }
    };
}

ways! {
    Arc<PyRwLock<i32>>;
    read_arc: ArcPyRwLockReadGuard = |lock, py| Some(PyRwLock::read_arc(lock, py));
    read_arc_checked: ArcPyRwLockReadGuard = |lock, py| PyRwLock::read_arc_checked(lock, py).ok();
    read_arc_interruptible: ArcPyRwLockReadGuard = |lock, py| PyRwLock::read_arc_interruptible(lock, py).ok();
    try_read_arc: ArcPyRwLockReadGuard = |lock, py| PyRwLock::try_read_arc(lock, py);
    try_read_arc_for: ArcPyRwLockReadGuard = |lock, py| PyRwLock::try_read_arc_for(lock, py, Duration::ZERO);
    try_read_arc_until: ArcPyRwLockReadGuard = |lock, py| PyRwLock::try_read_arc_until(lock, py, Instant::now());
    write_arc: ArcPyRwLockWriteGuard = |lock, py| Some(PyRwLock::write_arc(lock, py));
    write_arc_checked: ArcPyRwLockWriteGuard = |lock, py| PyRwLock::write_arc_checked(lock, py).ok();
    write_arc_interruptible: ArcPyRwLockWriteGuard = |lock, py| PyRwLock::write_arc_interruptible(lock, py).ok();
    try_write_arc: ArcPyRwLockWriteGuard = |lock, py| PyRwLock::try_write_arc(lock, py);
    try_write_arc_for: ArcPyRwLockWriteGuard = |lock, py| PyRwLock::try_write_arc_for(lock, py, Duration::ZERO);
    try_write_arc_until: ArcPyRwLockWriteGuard = |lock, py| PyRwLock::try_write_arc_until(lock, py, Instant::now());
}

//! A guard that owns a reference to its lock unlocks when it is dropped, and only the thread that locked, attached,
//! may do that.
//@ error: E0277

use pyo3_sync::ArcPyRwLockReadGuard;

fn sends<T: Send>(_: T) {}

pub fn case(guard: ArcPyRwLockReadGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    sends(guard);
    #[cfg(not(feature = "fail"))]
    sends(*guard);
}

//! A mapped guard unlocks when it is dropped, and only the thread that locked, attached, may do that.
//@ error: E0277

use pyo3_sync::MappedPyRwLockReadGuard;

fn sends<T: Send>(_: T) {}

pub fn case(guard: MappedPyRwLockReadGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    sends(guard);
    #[cfg(not(feature = "fail"))]
    sends(*guard);
}

//! Dropping a guard clears a slot of its thread.
//@ error: E0277

use pyo3_sync::PySnapshotGuard;

fn sends<T: Send>(_: T) {}

pub fn case(guard: PySnapshotGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    sends(guard);
    #[cfg(not(feature = "fail"))]
    sends(*guard);
}

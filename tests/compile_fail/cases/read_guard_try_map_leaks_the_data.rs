//! The closure of `try_map` gets the data to choose a part, which lives in the new guard, and keeps nothing for itself.
//@ error: E0521

use pyo3_sync::PyRwLockReadGuard;

pub fn case(guard: PyRwLockReadGuard<'_, [i32; 2]>) -> bool {
    let mut kept = None;
    let _guard = PyRwLockReadGuard::try_map(guard, |[first, second]| {
        #[cfg(feature = "fail")]
        let value = kept.insert(first);
        #[cfg(not(feature = "fail"))]
        let value = kept.insert(*first);
        let _ = value;
        Some(second)
    });
    kept.is_some()
}

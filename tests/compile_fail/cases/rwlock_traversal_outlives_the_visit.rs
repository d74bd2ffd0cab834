//! A lock may be locked and its data changed as soon as the collector has gone on: the reference ends with the
//! visit.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PyRwLock;

pub fn case<'a>(lock: &'a PyRwLock<i32>, visit: PyVisit<'a>) -> Option<i32> {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = lock.traverse(&visit);
    }
    visited.copied()
}

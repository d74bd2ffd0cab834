//! A cell may be borrowed and its data changed as soon as the collector has gone on: the reference ends with the
//! visit.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PyProtected;

pub fn case<'a>(lock: &'a PyProtected<i32>, visit: PyVisit<'a>) -> Option<i32> {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = lock.traverse(&visit);
    }
    visited.copied()
}

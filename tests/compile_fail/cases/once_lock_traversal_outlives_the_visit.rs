//! What a cell gives to the collector is for the length of the visit, whatever the cell is: the reference ends with
//! the visit.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PyOnceLock;

pub fn case<'a>(lock: &'a PyOnceLock<i32>, visit: PyVisit<'a>) -> Option<i32> {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = lock.traverse(&visit);
    }
    visited.copied()
}

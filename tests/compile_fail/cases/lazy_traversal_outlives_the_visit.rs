//! What a lazy value gives to the collector is for the length of the visit, whatever it is: the reference ends with
//! the visit.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PyLazy;

pub fn case<'a>(lazy: &'a PyLazy<i32>, visit: PyVisit<'a>) -> Option<i32> {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = lazy.traverse(&visit);
    }
    visited.copied()
}

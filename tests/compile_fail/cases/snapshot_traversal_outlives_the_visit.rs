//! Another thread may replace the value after the visit, with which the reference ends.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PySnapshot;

pub fn case<'a>(snapshot: &'a PySnapshot<i32>, visit: PyVisit<'a>) -> i32 {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = snapshot.traverse(&visit);
    }
    *visited
}

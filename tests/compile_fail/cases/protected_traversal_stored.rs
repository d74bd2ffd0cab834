//! A cell may be borrowed and its data changed as soon as the collector has gone on: the reference must not be kept,
//! though what it points into lives for ever.
//@ error: E0521

use std::sync::Mutex;

use pyo3::PyVisit;
use pyo3_sync::PyProtected;

static CELL: PyProtected<i32> = PyProtected::new(0);
static KEPT: Mutex<Option<&'static i32>> = Mutex::new(None);

pub fn case(visit: &PyVisit<'_>) {
    let visited = CELL.traverse(visit);
    #[cfg(feature = "fail")]
    drop(KEPT.lock().map(|mut kept| *kept = visited));
    #[cfg(not(feature = "fail"))]
    drop(KEPT.lock().map(|mut kept| *kept = visited.and(None)));
}

//! A lock may be locked and its data changed as soon as the collector has gone on: the reference must not be kept,
//! though what it points into lives for ever.
//@ error: E0521

use std::sync::Mutex;

use pyo3::PyVisit;
use pyo3_sync::PyRwLock;

static LOCK: PyRwLock<i32> = PyRwLock::new(0);
static KEPT: Mutex<Option<&'static i32>> = Mutex::new(None);

pub fn case(visit: &PyVisit<'_>) {
    let visited = LOCK.traverse(visit);
    #[cfg(feature = "fail")]
    drop(KEPT.lock().map(|mut kept| *kept = visited));
    #[cfg(not(feature = "fail"))]
    drop(KEPT.lock().map(|mut kept| *kept = visited.and(None)));
}

//! Another thread may replace the value after the visit, with which the reference ends.
//@ error: E0521

use std::sync::Mutex;

use pyo3::PyVisit;
use pyo3_sync::PySnapshot;

static SNAPSHOT: PySnapshot<i32> = PySnapshot::new(0);
static KEPT: Mutex<Option<&'static i32>> = Mutex::new(None);

pub fn case(visit: &PyVisit<'_>) {
    let visited = Some(SNAPSHOT.traverse(visit));
    #[cfg(feature = "fail")]
    drop(KEPT.lock().map(|mut kept| *kept = visited));
    #[cfg(not(feature = "fail"))]
    drop(KEPT.lock().map(|mut kept| *kept = visited.and(None)));
}

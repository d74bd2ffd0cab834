//! What a lazy value gives to the collector is for the length of the visit, whatever it is: the reference must not be
//! kept, though what it points into lives for ever.
//@ error: E0521

use std::sync::Mutex;

use pyo3::PyVisit;
use pyo3_sync::PyTryLazy;

static LAZY: PyTryLazy<i32> = PyTryLazy::new(|_| Ok(0));
static KEPT: Mutex<Option<&'static i32>> = Mutex::new(None);

pub fn case(visit: &PyVisit<'_>) {
    let visited = LAZY.traverse(visit);
    #[cfg(feature = "fail")]
    drop(KEPT.lock().map(|mut kept| *kept = visited));
    #[cfg(not(feature = "fail"))]
    drop(KEPT.lock().map(|mut kept| *kept = visited.and(None)));
}

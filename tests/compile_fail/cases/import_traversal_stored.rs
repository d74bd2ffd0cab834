//! What an import gives to the collector is for the length of the visit, whatever it is: the reference must not be
//! kept, though what it points into lives for ever.
//@ error: E0521

use std::sync::Mutex;

use pyo3::{Py, PyAny, PyVisit};
use pyo3_sync::PyImport;

static PATH: PyImport = PyImport::new("sys", "path");
static KEPT: Mutex<Option<&'static Py<PyAny>>> = Mutex::new(None);

pub fn case(visit: &PyVisit<'_>) {
    let visited = PATH.traverse(visit);
    #[cfg(feature = "fail")]
    drop(KEPT.lock().map(|mut kept| *kept = visited));
    #[cfg(not(feature = "fail"))]
    drop(KEPT.lock().map(|mut kept| *kept = visited.and(None)));
}

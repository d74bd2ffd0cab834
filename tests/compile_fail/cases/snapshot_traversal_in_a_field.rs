//! Another thread may replace the value after the visit: no reference may be kept in the object.
//@ error: lifetime may not live long enough

use std::cell::Cell;

use pyo3::PyVisit;
use pyo3_sync::PySnapshot;

pub struct Object<'a> {
    pub snapshot: &'a PySnapshot<i32>,
    pub seen: Cell<Option<&'a i32>>,
}

impl Object<'_> {
    pub fn traverse(&self, visit: &PyVisit<'_>) {
        let visited = Some(self.snapshot.traverse(visit));
        #[cfg(feature = "fail")]
        self.seen.set(visited);
        #[cfg(not(feature = "fail"))]
        self.seen.set(visited.and(None));
    }
}

//! A lock may be locked and its data changed as soon as the collector has gone on: the reference must not be kept in
//! the object that is visited.
//@ error: lifetime may not live long enough

use std::cell::Cell;

use pyo3::PyVisit;
use pyo3_sync::PyRwLock;

pub struct Object<'a> {
    pub lock: &'a PyRwLock<i32>,
    pub seen: Cell<Option<&'a i32>>,
}

impl Object<'_> {
    pub fn traverse(&self, visit: &PyVisit<'_>) {
        let visited = self.lock.traverse(visit);
        #[cfg(feature = "fail")]
        self.seen.set(visited);
        #[cfg(not(feature = "fail"))]
        self.seen.set(visited.and(None));
    }
}

//! What a lazy value gives to the collector is for the length of the visit, whatever it is: the reference must not be
//! kept in the object that is visited.
//@ error: lifetime may not live long enough

use std::cell::Cell;

use pyo3::PyVisit;
use pyo3_sync::PyTryLazy;

pub struct Object<'a> {
    pub lazy: &'a PyTryLazy<i32>,
    pub seen: Cell<Option<&'a i32>>,
}

impl Object<'_> {
    pub fn traverse(&self, visit: &PyVisit<'_>) {
        let visited = self.lazy.traverse(visit);
        #[cfg(feature = "fail")]
        self.seen.set(visited);
        #[cfg(not(feature = "fail"))]
        self.seen.set(visited.and(None));
    }
}

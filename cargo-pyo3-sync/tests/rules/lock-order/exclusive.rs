// Who writes borrows the object mutably, so that nobody reads it meanwhile, and no reader waits.

use std::sync::RwLock;

use pyo3::prelude::*;

#[pyclass]
struct Table { //~ pyclass-mut-self
    rows: RwLock<Vec<i64>>,
}

#[pymethods]
impl Table {
    fn same_rows(&self, other: &Self) -> bool {
        let these = self.rows.read().unwrap();
        let those = other.rows.read().unwrap();
        *these == *those
    }

    fn take_from(&mut self, other: &Self) {
        let mut these = self.rows.write().unwrap();
        let those = other.rows.read().unwrap();
        these.extend(those.iter());
    }
}

#[pyclass]
struct Shared { //~ pyclass-mut-self
    rows: RwLock<Vec<i64>>,
}

#[pymethods]
impl Shared {
    fn same_rows(&self, other: &Self) -> bool {
        let these = self.rows.read().unwrap();
        let those = other.rows.read().unwrap(); //~ lock-order
        *these == *those
    }

    fn clear(&mut self) {
        self.rows.write().unwrap().clear();
    }

    // Reads again when this waits.
    fn shrink(&self) {
        self.rows.write().unwrap().shrink_to_fit();
    }
}

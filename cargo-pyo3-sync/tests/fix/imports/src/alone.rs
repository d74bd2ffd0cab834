use pyo3::prelude::*;
use pyo3::sync::GILOnceCell;
use pyo3::types::PyType;

// GILOnceCell in a comment stays, and in a text.
static FRACTION: GILOnceCell<Py<PyType>> = GILOnceCell::new();
const NAME: &str = "GILOnceCell";

fn fraction(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    FRACTION.import(py, "fractions", "Fraction")
}

pub struct Table {
    cells: Vec<GILOnceCell<u8>>,
}

impl Table {
    pub fn first(&mut self, py: Python<'_>) -> Option<u8> {
        let cell: &mut GILOnceCell<u8> = self.cells.first_mut()?;
        cell.set(py, 1).ok()?;
        cell.get_mut().copied().or_else(|| <GILOnceCell<u8>>::default().take())
    }
}

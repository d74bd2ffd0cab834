use pyo3::{prelude::*, sync::GILOnceCell, types::PyType};

static FRACTION: GILOnceCell<Py<PyType>> = GILOnceCell::new(); //~ gil-once-cell

struct Module {
    cell: pyo3::sync::GILOnceCell<Py<PyAny>>, //~ gil-once-cell
}

enum Kind {
    Torch(GILOnceCell<Py<PyAny>>), //~ gil-once-cell
}

fn fraction<'py>(py: Python<'py>, cell: &GILOnceCell<Py<PyType>>) -> PyResult<Bound<'py, PyAny>> {
    static INNER: GILOnceCell<Py<PyAny>> = GILOnceCell::new(); //~ gil-once-cell
    FRACTION.import(py, "fractions", "Fraction")?.call1((1, 2))
}

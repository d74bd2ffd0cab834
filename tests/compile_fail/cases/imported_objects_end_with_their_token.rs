//! What an import gives can be used as long as the thread is attached: it is bound to the token, and borrowed from the cell.
//@ error: lifetime may not live long enough
//@ places: 5

use pyo3::{prelude::*, types::PyType};
use pyo3_sync::{PyImport, PyOnceLock, compat::GILOnceCell};

macro_rules! ways {
    ($($name:ident: $cell:ty => $object:ty = |$this:ident, $py:ident| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name<'cell, 'py>(
                $this: &'cell $cell,
                $py: Python<'py>,
            ) -> PyResult<Bound<'cell, $object>> {
                $way
            }
            #[cfg(not(feature = "fail"))]
            pub fn $name<'py>(
                $this: &$cell,
                $py: Python<'py>,
            ) -> PyResult<Bound<'py, $object>> {
                $way
            }
        )*
    };
}

ways! {
    once_lock: PyOnceLock<Py<PyType>> => PyType = |cell, py| cell.import(py, "decimal", "Decimal").cloned();
    gil_once_cell: GILOnceCell<Py<PyType>> => PyType = |cell, py| cell.import(py, "decimal", "Decimal").cloned();
    type_ref: GILOnceCell<Py<PyType>> => PyType = |cell, py| {
        cell.get_or_try_init_type_ref(py, "decimal", "Decimal").cloned()
    };
    get: PyImport => PyAny = |cell, py| cell.get(py).cloned();
    get_owned: PyImport => PyAny = |cell, py| cell.get_owned(py);
}

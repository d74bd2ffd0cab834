use pyo3::{
    prelude::*,
    // The cells.
    sync::{
        MutexExt,
        GILOnceCell, // the last of the list
    },
    types::{
        PyDict,
        PyType,
    },
};

static TYPE: GILOnceCell<Py<PyType>> = GILOnceCell::new();

mod inner {
    pub(super) mod deeper {
        pub(in crate::nested) use pyo3::{sync::{GILOnceCell}, types::PyAnyMethods};

        pub(crate) static COUNT: GILOnceCell<usize> = GILOnceCell::new();
    }
}

fn count(py: Python<'_>, table: &Bound<'_, PyDict>, lock: &std::sync::Mutex<u8>) -> PyResult<usize> {
    use inner::deeper::PyAnyMethods;
    drop(lock.lock_py_attached(py));
    let _ = TYPE.import(py, "fractions", "Fraction")?;
    let cell: &inner::deeper::GILOnceCell<usize> = &inner::deeper::COUNT;
    cell.get_or_try_init(py, || PyAnyMethods::len(table.as_any())).copied()
}

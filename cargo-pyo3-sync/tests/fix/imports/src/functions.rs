use pyo3::{prelude::*, types::PyString};

fn greeting(py: Python<'_>) -> &Bound<'_, PyString> {
    use pyo3::sync::GILOnceCell;
    static GREETING: GILOnceCell<Py<PyString>> = GILOnceCell::new();
    GREETING.get_or_init(py, || PyString::new(py, "hello").unbind()).bind(py)
}

impl crate::alone::Table {
    pub fn second(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> u8 {
        let compute = || {
            use pyo3::sync::{GILOnceCell, MutexExt};
            static SECOND: GILOnceCell<u8> = GILOnceCell::new();
            *SECOND.get_or_init(py, || *lock.lock_py_attached(py).unwrap())
        };
        compute()
    }
}

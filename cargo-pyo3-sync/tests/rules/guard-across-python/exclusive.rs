// Nobody waits for a lock in an object that is borrowed mutably; and where nobody else writes, nobody waits for a reader.

use std::sync::{Arc, RwLock};

use pyo3::prelude::*;

#[pyclass]
struct Cache { //~ pyclass-mut-self
    entries: RwLock<Vec<i64>>,
    shared: Arc<RwLock<Vec<i64>>>,
}

#[pymethods]
impl Cache {
    #[new]
    fn new(made: &Bound<'_, PyAny>) -> PyResult<Self> {
        let cache = Cache { entries: RwLock::default(), shared: Arc::default() };
        cache.entries.write().unwrap().push(made.call0()?.extract()?);
        Ok(cache)
    }

    fn update(slf: PyRefMut<'_, Self>, made: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut entries = slf.entries.write().unwrap();
        entries.push(made.call0()?.extract()?);
        Ok(())
    }

    // A copy of the `Arc` may be elsewhere.
    fn update_shared(&mut self, made: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut entries = self.shared.write().unwrap();
        entries.push(made.call0()?.extract()?); //~ guard-across-python
        Ok(())
    }

    fn each(&self, made: &Bound<'_, PyAny>) -> PyResult<()> {
        for entry in self.entries.read().unwrap().iter() {
            made.call1((*entry,))?;
        }
        Ok(())
    }
}

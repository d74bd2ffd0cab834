//! The iterator, frozen: what never changes lies open, and what `__next__` changes is behind a lock. Each word goes to one thread.

use pyo3::prelude::*;
use pyo3_sync::PyMutex;

#[pyclass(frozen)]
struct Words {
    text: String,
    position: PyMutex<usize>,
}

#[pymethods]
impl Words {
    #[new]
    fn new(text: String) -> Self {
        Words {
            text,
            position: PyMutex::new(0),
        }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let mut position = self.position.lock_checked(py)?;
        let rest = &self.text[*position..];
        let Some(start) = rest.find(|c: char| !c.is_whitespace()) else {
            return Ok(None);
        };
        let word = rest[start..].split_whitespace().next().unwrap_or_default();
        *position += start + word.len();
        Ok(Some(word.to_owned()))
    }
}

#[pymodule(gil_used = false)]
mod iterator_after {
    #[pymodule_export]
    use super::Words;
}

//! An iterator as it is usually written: `__next__` wants `&mut self`. Threads that share one are refused.

use pyo3::prelude::*;

#[pyclass]
struct Words {
    text: String,
    position: usize,
}

#[pymethods]
impl Words {
    #[new]
    fn new(text: String) -> Self {
        Words { text, position: 0 }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self) -> Option<String> {
        let rest = &self.text[self.position..];
        let start = rest.find(|c: char| !c.is_whitespace())?;
        let word = rest[start..].split_whitespace().next()?;
        self.position += start + word.len();
        Some(word.to_owned())
    }
}

#[pymodule(gil_used = false)]
mod iterator_before {
    #[pymodule_export]
    use super::Words;
}

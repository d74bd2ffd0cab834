//! The parser behind a [`PyMutex`]: any thread may use it, one at a time. What allows that is said where `Send` is declared.

#[path = "grammar.rs"]
mod grammar;

use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_sync::PyMutex;

/// A parser that moves between threads with everything it shares.
struct Whole(grammar::Parser);

// SAFETY: the parser is not `Send` for its `Rc`s, which count without synchronisation.
// - It makes them itself, and all clones stay inside: `new` takes nothing, and no method gives one out, nor a reference to what they
//   point to. So they move together or not at all.
// - It has no thread-local state.
// - Moving between threads is ordered by the mutex around it, which is where the only value of this type lives.
unsafe impl Send for Whole {}

#[pyclass(frozen)]
struct Parser(PyMutex<Whole>);

#[pymethods]
impl Parser {
    #[new]
    fn new() -> Self {
        Parser(PyMutex::new(Whole(grammar::Parser::new())))
    }

    fn define(&self, py: Python<'_>, name: &str, value: i64) -> PyResult<()> {
        self.0.lock_checked(py)?.0.define(name, value);
        Ok(())
    }

    fn parse(&self, py: Python<'_>, sum: &str) -> PyResult<i64> {
        let value = self.0.lock_checked(py)?.0.parse(sum);
        value.map_err(|word| PyValueError::new_err(format!("neither number nor name: {word}")))
    }
}

#[pymodule(gil_used = false)]
mod parser_after {
    #[pymodule_export]
    use super::Parser;
}

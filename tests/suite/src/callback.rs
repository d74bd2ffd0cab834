//! Rust code that Python calls: directly, when an object dies, or while the interpreter shuts down.

use pyo3::prelude::*;

/// A Python callable without arguments.
#[pyclass(frozen)]
pub(crate) struct Callback(Box<dyn Fn(Python<'_>) -> PyResult<()> + Send + Sync>);

#[pymethods]
impl Callback {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        (self.0)(py)
    }
}

impl Callback {
    pub(crate) fn new(body: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static) -> Self {
        Callback(Box::new(body))
    }

    /// An object whose finaliser makes the call.
    pub(crate) fn on_death(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let code = c"
class Mortal:
    def __init__(self, last_words):
        self.last_words = last_words
    def __del__(self):
        self.last_words()
";
        let module = PyModule::from_code(py, code, c"mortal.py", c"mortal")?;
        Ok(module.getattr("Mortal")?.call1((self,))?.unbind())
    }

    /// Makes the call on the main thread when the interpreter is past the point from which on no other thread can attach, and
    /// prints what it raises.
    pub(crate) fn at_finalisation(self, py: Python<'_>) -> PyResult<()> {
        let code = c"
import os, sys

class AtFinalisation:
    # Names are looked up here: modules and built-ins may have been cleared when they are needed.
    def __init__(self, call, is_finalizing=sys.is_finalizing, write=os.write, error=BaseException):
        self.call, self.is_finalizing, self.write, self.error = call, is_finalizing, write, error
    def __del__(self):
        if not self.is_finalizing():
            self.write(2, b'too early')
        try:
            self.call()
        except self.error as error:
            self.write(2, error.args[0].encode())
        else:
            self.write(2, b'the call returned')
";
        let module = PyModule::from_code(py, code, c"at_finalisation.py", c"at_finalisation")?;
        // The dictionary of the `sys` module is cleared last but one of all, long after the flag was set.
        let object = module.getattr("AtFinalisation")?.call1((self,))?;
        py.import("sys")?.setattr("at_finalisation", object)
    }
}

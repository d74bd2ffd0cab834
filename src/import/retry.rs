//! Repeats imports that the interpreter refuses because of an import cycle.

use std::time::Duration;

use pyo3::prelude::*;

use crate::python::sleep_detached;

/// Maximum number of times that a refused import is repeated: for about a second. On a busy machine
/// the other thread may take that long to complete the modules.
const RETRIES: u32 = 10;

/// Runs `import`, repeating it if the interpreter refuses it because of an import cycle.
///
/// If each of two threads imports the module that the other one is importing, CPython raises
/// `_DeadlockError` in one of them. That import has failed and released its import locks, so the
/// other thread completes both modules, and the import succeeds if it is repeated. A repetition
/// fails again if the calling thread is itself importing the module that the other thread waits
/// for. The exception must reach that import, so the number of repetitions is bounded.
pub(crate) fn retry_import<R>(py: Python<'_>, import: impl Fn() -> PyResult<R>) -> PyResult<R> {
    for retry in 0..RETRIES {
        match import() {
            Err(error) if is_import_deadlock(py, &error) => drop(error),
            result => return result,
        }
        // Detached, because the other thread needs the interpreter to complete the modules.
        sleep_detached(py, Duration::from_millis(1 << retry));
    }
    import()
}

/// Returns whether the exception is importlib's `_DeadlockError`, itself and not a subclass.
fn is_import_deadlock(py: Python<'_>, error: &PyErr) -> bool {
    let class = error.get_type(py);
    let (Ok(name), Ok(module)) = (class.name(), class.module()) else {
        return false;
    };
    // The module has two names: CPython freezes it, and `importlib` renames it.
    name == "_DeadlockError" && (module == "_frozen_importlib" || module == "importlib._bootstrap")
}

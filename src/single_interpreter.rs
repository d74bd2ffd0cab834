//! Refusing to be loaded by a second interpreter.

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::{exceptions::PyImportError, prelude::*};

use crate::build_config::interpreter_id;

/// Fails in every interpreter of the process but the first that asks.
///
/// To be called by module initialisers. The statics of an extension are shared by all interpreters of a process, while
/// each has objects, and stops of the world, of its own; PyO3 up to 0.27 refused a second interpreter for that
/// reason, and from 0.28 on does not. CPython refuses PyO3's modules in an interpreter with a GIL of its own, but a
/// legacy sub-interpreter loads them, and then two interpreters use the same locks, cells and Python objects. **That
/// is not supported**: without this call, a process with two interpreters that import the extension has undefined
/// behaviour.
///
/// ```
/// use pyo3::prelude::*;
///
/// #[pymodule]
/// fn my_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
///     pyo3_sync::ensure_single_interpreter(module)?;
///     // ...
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// An `ImportError` if another interpreter has asked before.
pub fn ensure_single_interpreter(module: &Bound<'_, PyModule>) -> PyResult<()> {
    /// The id of the interpreter that came first; ids are not negative.
    static FIRST: AtomicI64 = AtomicI64::new(-1);

    let id = interpreter_id(module.py())?;
    // Relaxed: the id is all that is passed on.
    match FIRST.compare_exchange(-1, id, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(first) if first == id => Ok(()),
        Err(_) => {
            let name = module.name()?;
            Err(PyImportError::new_err(format!(
                "{name} cannot be loaded in a second interpreter of one process: its locks and cached objects \
                 belong to the interpreter that loaded it first"
            )))
        }
    }
}

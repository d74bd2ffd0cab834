//! Refusing to be loaded by a second interpreter.

use std::{
    ffi::CStr,
    ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use pyo3::{exceptions::PyImportError, ffi, prelude::*};

use crate::build_config::{SEVERAL_INTERPRETERS, interpreter_dictionary};

/// Number of the interpreter that came first; 0 before one has.
static FIRST: AtomicUsize = AtomicUsize::new(0);

/// Set when that interpreter has ended.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Returns an error in every interpreter of the process but the first caller.
///
/// For module initializers. All interpreters of a process share the statics of an extension, while
/// each has objects, and stop-the-world events, of its own. PyO3 up to 0.27 refused a second
/// interpreter for that reason, and from 0.28 on does not. CPython refuses PyO3's modules in an
/// interpreter with a GIL of its own, but a legacy subinterpreter loads them, and then two
/// interpreters use the same locks, cells and Python objects. **That is not supported**: without
/// this call, a process with two interpreters that import the extension has undefined behavior.
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
/// Returns an `ImportError` in every interpreter but the first caller, whether the first one
/// still exists or not:
///
/// - While it exists, the extension can be used there only.
/// - After it has ended, the extension can be used nowhere in this process. Its statics refer to
///   objects of that interpreter: classes, cached values, interned strings. They ended with it, and
///   nothing can empty the statics of PyO3 and of the extension. This is the case after
///   `Py_Finalize` and `Py_Initialize`, and after a subinterpreter has imported the extension first
///   and was destroyed. The error names this cause.
///
/// A program that has subinterpreters imports the extension in the main interpreter first, which
/// outlives the others.
pub fn ensure_single_interpreter(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !SEVERAL_INTERPRETERS {
        return Ok(());
    }
    let number = interpreter_number(module.py())?;
    // Relaxed: nothing else is published.
    match FIRST.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(first) if first == number => Ok(()),
        Err(_) => Err(refusal(module)?),
    }
}

fn refusal(module: &Bound<'_, PyModule>) -> PyResult<PyErr> {
    let name = module.name()?;
    // Relaxed: a hint for the message.
    let message = if HAS_ENDED.load(Ordering::Relaxed) {
        format!(
            "{name} cannot be loaded in this process any more: the interpreter that loaded it \
             first has ended, and its locks and cached objects belonged to that one; start a new \
             process, and import it in the main interpreter before any subinterpreter"
        )
    } else {
        format!(
            "{name} cannot be loaded in a second interpreter of one process: its locks and cached \
             objects belong to the interpreter that loaded it first"
        )
    };
    Ok(PyImportError::new_err(message))
}

/// Name of the capsules that hold the numbers of interpreters.
const NAME: &CStr = c"pyo3_sync.interpreter";

/// Returns the number of the interpreter that the calling thread is attached to. No other
/// interpreter of the process ever has the same.
///
/// Up to Python 3.13, CPython's own ids start again from 0 after `Py_Finalize`. The number is in a
/// capsule in the dictionary of the interpreter, which begins and ends with it.
///
/// Uses no object in a static, because the caller may be attached to a second interpreter.
fn interpreter_number(py: Python<'_>) -> PyResult<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);

    let dictionary = interpreter_dictionary(py)
        .ok_or_else(|| PyImportError::new_err("this interpreter has no dictionary of its own"))?;
    // Each copy of this crate in the process has statics of its own.
    let key = format!("pyo3_sync.interpreter:{:p}", &FIRST);
    // Relaxed: only the number counts.
    let number = ptr::without_provenance_mut(NEXT.fetch_add(1, Ordering::Relaxed));
    // SAFETY:
    // - The calling thread is attached, by the token.
    // - The pointer is not null, the name is static, and the destructor fits the type.
    // - The result is a new reference, or null with an exception.
    let capsule = unsafe {
        let capsule = ffi::PyCapsule_New(number, NAME.as_ptr(), Some(note_end));
        Bound::from_owned_ptr_or_err(py, capsule)?
    };
    // One atomic operation: all threads of the interpreter get the same capsule.
    let entered = dictionary.call_method1("setdefault", (key, capsule))?;
    // SAFETY: the calling thread is attached, and the reference is valid. For another object than a
    // capsule with this name the function fails.
    let number = unsafe { ffi::PyCapsule_GetPointer(entered.as_ptr(), NAME.as_ptr()) };
    if number.is_null() {
        return Err(PyErr::fetch(py));
    }
    Ok(number.addr())
}

/// Called when an interpreter ends, and for capsules that were not the first of their interpreter.
unsafe extern "C" fn note_end(capsule: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this attached, with the capsule, which still has its pointer.
    let number = unsafe { ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()) }.addr();
    // Relaxed: a hint for the message.
    if number == FIRST.load(Ordering::Relaxed) {
        HAS_ENDED.store(true, Ordering::Relaxed);
    }
}

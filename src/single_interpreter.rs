//! [`ensure_single_interpreter`]: rejects a second interpreter in one process.

use std::{
    ffi::CStr,
    ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use pyo3::{exceptions::PyImportError, ffi, prelude::*};

use crate::python::{SEVERAL_INTERPRETERS, interpreter_dictionary};

/// Number of the first interpreter, or 0 before its call.
static FIRST: AtomicUsize = AtomicUsize::new(0);

/// Set when the first interpreter has ended.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Returns an error in every interpreter of the process but the first caller.
///
/// Call it in the module initializer. All interpreters of a process share the statics of an
/// extension, while each interpreter has its own objects and stop-the-world events. PyO3 up to 0.27
/// rejected a second interpreter for that reason; PyO3 0.28 and later do not. CPython rejects
/// PyO3's modules in an interpreter with its own GIL, but a legacy subinterpreter loads them. Two
/// interpreters then use the same locks, cells and Python objects. **That is not supported**:
/// without this call, a process with two interpreters that import the extension has undefined
/// behavior.
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
/// - While it exists, the extension can be used only there.
/// - After it has ended, the extension cannot be used in this process. Its statics refer to objects
///   of that interpreter (classes, cached values, interned strings), which ended with it, and the
///   statics of PyO3 and of the extension cannot be emptied. This is the case after `Py_Finalize`
///   and `Py_Initialize`, and after a subinterpreter that imported the extension first was
///   destroyed. The error names this cause.
///
/// A program with subinterpreters should import the extension in the main interpreter first, since
/// that outlives the others.
pub fn ensure_single_interpreter(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !SEVERAL_INTERPRETERS {
        return Ok(());
    }
    let number = interpreter_number(module.py())?;
    // Relaxed: publishes no other memory.
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

/// Name of the capsules that store the numbers of interpreters.
const NAME: &CStr = c"pyo3_sync.interpreter";

/// Returns the number of the current interpreter, unique in the process and never reused.
///
/// Up to Python 3.13, CPython's own ids start again from 0 after `Py_Finalize`. So the number is
/// stored in a capsule in the dictionary of the interpreter, which lives as long as the
/// interpreter.
///
/// Uses no object in a static, because the caller may be attached to a second interpreter.
fn interpreter_number(py: Python<'_>) -> PyResult<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);

    let dictionary = interpreter_dictionary(py)
        .ok_or_else(|| PyImportError::new_err("this interpreter has no dictionary of its own"))?;
    // Each copy of this crate in the process has its own statics, and needs its own key.
    let key = format!("pyo3_sync.interpreter:{:p}", &FIRST);
    // Relaxed: only uniqueness matters.
    let number = ptr::without_provenance_mut(NEXT.fetch_add(1, Ordering::Relaxed));
    // SAFETY:
    // - The calling thread is attached, by the token.
    // - The pointer is not null, the name is static, and the destructor fits the type.
    // - The result is a new reference, or null with an exception.
    let capsule = unsafe {
        let capsule = ffi::PyCapsule_New(number, NAME.as_ptr(), Some(note_end));
        Bound::from_owned_ptr_or_err(py, capsule)?
    };
    // `setdefault` is atomic, so all threads of the interpreter get the same capsule.
    let entered = dictionary.call_method1("setdefault", (key, capsule))?;
    // SAFETY:
    // - The calling thread is attached, and the reference is valid.
    // - The function checks that the object is a capsule with this name, and fails otherwise.
    let number = unsafe { ffi::PyCapsule_GetPointer(entered.as_ptr(), NAME.as_ptr()) };
    if number.is_null() {
        return Err(PyErr::fetch(py));
    }
    Ok(number.addr())
}

/// Runs when an interpreter ends, and for each capsule that `setdefault` did not store.
unsafe extern "C" fn note_end(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython calls the destructor attached, with a capsule that still has its pointer.
    let number = unsafe { ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()) }.addr();
    // Relaxed: a hint for the message.
    if number == FIRST.load(Ordering::Relaxed) {
        HAS_ENDED.store(true, Ordering::Relaxed);
    }
}

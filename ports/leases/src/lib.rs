//! Uses of `GILProtected` as in the crate `numpy` 0.22, for PyO3 0.25, the last version that has
//! it.
//!
//! - A cache of Python objects in a static, [`Contexts`]. It is borrowed while a missing object is
//!   created. The first object needs an import, which runs Python code and releases the GIL.
//! - Bookkeeping that several extensions of a process share, [`Book`], behind a pointer in a
//!   capsule that the first of them creates. No Python code runs while it is borrowed.
#![allow(
    deprecated,
    reason = "later versions of PyO3 have other names for some of it"
)]

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    ffi::{CString, c_int, c_void},
};

use pyo3::sync::{GILOnceCell, GILProtected};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyCapsule, PyDict},
};

const CAPSULE: &str = "_LEASES_API";

fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static DECIMAL: GILOnceCell<Py<PyModule>> = GILOnceCell::new();
    let module = DECIMAL.get_or_try_init(py, || py.import("decimal").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// Contexts of the module `decimal`, one for each precision that was asked for.
struct Contexts {
    rounding: &'static str,
    by_precision: GILProtected<RefCell<Option<HashMap<u32, Py<PyAny>>>>>,
}

impl Contexts {
    const fn new(rounding: &'static str) -> Self {
        Contexts {
            rounding,
            by_precision: GILProtected::new(RefCell::new(None)),
        }
    }

    fn with_precision(&self, py: Python<'_>, precision: u32) -> PyResult<Py<PyAny>> {
        let mut contexts = self.by_precision.get(py).borrow_mut();

        let context = match contexts.get_or_insert_with(HashMap::new).entry(precision) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let options = PyDict::new(py);
                options.set_item("prec", precision)?;
                options.set_item("rounding", self.rounding)?;
                let context = decimal(py)?.getattr("Context")?.call((), Some(&options))?;
                entry.insert(context.unbind())
            }
        };
        Ok(context.clone_ref(py))
    }
}

/// A context of `decimal`, the same object each time.
#[pyfunction]
fn context(py: Python<'_>, rounding: &str, precision: u32) -> PyResult<Py<PyAny>> {
    static DOWN: Contexts = Contexts::new("ROUND_DOWN");
    static UP: Contexts = Contexts::new("ROUND_UP");
    match rounding {
        "down" => DOWN.with_precision(py, precision),
        "up" => UP.with_precision(py, precision),
        _ => Err(PyValueError::new_err("round `up` or `down`")),
    }
}

/// Which part of something is leased.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    start: usize,
    stop: usize,
}

impl Span {
    fn overlaps(self, other: Span) -> bool {
        self.start < other.stop && other.start < self.stop
    }
}

/// For each thing and span of it the number of readers, or -1 for a writer.
type Leases = HashMap<usize, HashMap<Span, isize>>;

type Book = GILProtected<RefCell<Leases>>;

fn in_book<R>(py: Python<'_>, book: &Book, action: impl FnOnce(&mut Leases) -> R) -> R {
    action(&mut book.get(py).borrow_mut())
}

/// The contents of the capsule. The functions belong to the extension that created it.
#[repr(C)]
struct Shared {
    version: u64,
    book: *mut c_void,
    begin: unsafe extern "C" fn(*mut c_void, usize, Span, c_int) -> c_int,
    end: unsafe extern "C" fn(*mut c_void, usize, Span) -> c_int,
}

// SAFETY: any attached thread may use the book.
unsafe impl Send for Shared {}

unsafe extern "C" fn begin(book: *mut c_void, thing: usize, span: Span, write: c_int) -> c_int {
    // SAFETY: callers are attached, and pass the book that lies beside this function.
    let (py, book) = unsafe { (Python::assume_gil_acquired(), &*book.cast::<Book>()) };
    in_book(py, book, |leases| {
        let leases = leases.entry(thing).or_default();
        let conflicts = |(other, readers): (&Span, &isize)| {
            other.overlaps(span) && (write != 0 || *readers < 0)
        };
        if leases.iter().any(conflicts) {
            return -1;
        }
        *leases.entry(span).or_insert(0) += if write != 0 { -1 } else { 1 };
        0
    })
}

unsafe extern "C" fn end(book: *mut c_void, thing: usize, span: Span) -> c_int {
    // SAFETY: as in `begin`.
    let (py, book) = unsafe { (Python::assume_gil_acquired(), &*book.cast::<Book>()) };
    in_book(py, book, |leases| {
        let Some(readers) = leases
            .get_mut(&thing)
            .and_then(|spans| spans.get_mut(&span))
        else {
            return -1;
        };
        *readers -= readers.signum();
        if *readers == 0 {
            leases.get_mut(&thing).expect("it was there").remove(&span);
        }
        0
    })
}

struct SharedPointer(GILOnceCell<*const Shared>);

// SAFETY: the pointee is never freed, and only attached threads use it.
unsafe impl Send for SharedPointer {}
// SAFETY: as above.
unsafe impl Sync for SharedPointer {}

static SHARED: SharedPointer = SharedPointer(GILOnceCell::new());

fn shared(py: Python<'_>) -> PyResult<&'static Shared> {
    let shared = SHARED.0.get_or_try_init(py, || find_or_publish(py))?;
    // SAFETY: checked when it was found, and never freed.
    Ok(unsafe { &**shared })
}

#[cold]
fn find_or_publish(py: Python<'_>) -> PyResult<*const Shared> {
    let module = decimal(py)?;
    let capsule = match module.getattr(CAPSULE) {
        Ok(capsule) => capsule.downcast_into::<PyCapsule>()?,
        Err(_) => {
            let book: *mut Book = Box::into_raw(Box::new(Book::new(RefCell::default())));
            let shared = Shared {
                version: 1,
                book: book.cast(),
                begin,
                end,
            };
            let capsule = PyCapsule::new(py, shared, Some(CString::new(CAPSULE)?))?;
            module.setattr(CAPSULE, &capsule)?;
            capsule
        }
    };
    let shared = capsule.pointer().cast_const().cast::<Shared>();
    // SAFETY: each version begins with its number.
    if unsafe { (*shared).version } < 1 {
        return Err(PyTypeError::new_err("the leases of another version"));
    }
    // The pointer stays good: one reference is never given up.
    std::mem::forget(capsule);
    Ok(shared)
}

/// Leases a span of something. Returns an error if another lease of an overlapping span conflicts.
#[pyfunction]
#[pyo3(signature = (thing, start, stop, *, write = false))]
fn lease(py: Python<'_>, thing: usize, start: usize, stop: usize, write: bool) -> PyResult<()> {
    let shared = shared(py)?;
    // SAFETY: attached, and the book is that of the function.
    let code =
        unsafe { (shared.begin)(shared.book, thing, Span { start, stop }, c_int::from(write)) };
    if code == 0 {
        Ok(())
    } else {
        Err(PyValueError::new_err("leased to somebody else"))
    }
}

/// Ends a lease.
#[pyfunction]
fn release(py: Python<'_>, thing: usize, start: usize, stop: usize) -> PyResult<()> {
    let shared = shared(py)?;
    // SAFETY: as in `lease`.
    let code = unsafe { (shared.end)(shared.book, thing, Span { start, stop }) };
    if code == 0 {
        Ok(())
    } else {
        Err(PyValueError::new_err("not leased"))
    }
}

#[pymodule(gil_used = false)]
fn leases(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(context, module)?)?;
    module.add_function(wrap_pyfunction!(lease, module)?)?;
    module.add_function(wrap_pyfunction!(release, module)?)
}

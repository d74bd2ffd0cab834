//! The types that PyO3 has removed, as they were: for porting in small steps.
//!
//! An extension written for PyO3 0.22 to 0.25 compiles with these after changing its `use` lines, and behaves as it did. They
//! are the first step, not the last: most uses are better served by [`PyOnceLock`](crate::PyOnceLock) and
//! [`PyProtected`](crate::PyProtected), and the guide for that is [`migration`](crate::migration).

#![allow(
    deprecated,
    reason = "`GILProtected` is, and its own implementation names it"
)]

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use pyo3::{
    PyTypeCheck,
    prelude::*,
    pyclass::PyVisit,
    types::{PyAnyMethods, PyType},
};

use crate::import::retry_import;

/// PyO3's `GILOnceCell`: a cell that is filled once, by whichever thread comes first.
///
/// Unlike [`PyOnceLock`](crate::PyOnceLock) it never waits. Threads that find it empty each run their own initialiser, and an
/// initialiser may ask for the cell it is filling, and run another one inside. The first value that arrives stays, and
/// everybody gets that one; the others are dropped. This is the cell to keep where an initialiser re-enters itself, or where
/// two of them need each other, and running it several times does no harm.
///
/// ```
/// use pyo3::{prelude::*, types::PyList};
/// use pyo3_sync::compat::GILOnceCell;
///
/// static NAMES: GILOnceCell<Py<PyList>> = GILOnceCell::new();
///
/// fn names<'py>(py: Python<'py>) -> &'py Bound<'py, PyList> {
///     NAMES.get_or_init(py, || PyList::empty(py).unbind()).bind(py)
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert_eq!(names(py).len(), 0));
/// ```
///
/// # Differences from PyO3's
///
/// The value lives in an allocation of its own, made when the cell is filled. That is what lets the cell be filled in one step, so
/// that no thread can be found in the middle of it: not by another thread, which would have to wait while attached, and not by a
/// fork, whose child would wait for ever. PyO3's type moved the value in under a [`Once`](std::sync::Once).
pub struct GILOnceCell<T> {
    /// An [`AtomicPtr`] while the cell is shared: one compare-exchange fills it.
    ///
    /// An `Option<Box<T>>` has the same representation, and the compiler drops it. An `impl Drop`
    /// would make the drop check reject a cell whose value refers to something that is dropped
    /// first.
    content: UnsafeCell<Option<Box<T>>>,
}

// SAFETY: threads that share the cell share the value (hence `Sync`), and one of them can fill it
// for another to drop (hence `Send`).
unsafe impl<T: Send + Sync> Sync for GILOnceCell<T> {}

// A panicking initializer leaves the cell empty: only the value can show a broken invariant.
impl<T: UnwindSafe> UnwindSafe for GILOnceCell<T> {}
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for GILOnceCell<T> {}

impl<T> GILOnceCell<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        GILOnceCell {
            content: UnsafeCell::new(None),
        }
    }

    #[inline]
    fn content(&self) -> &AtomicPtr<T> {
        // SAFETY:
        // - `Option<Box<T>>` has the size, alignment and values of a pointer that may be null.
        // - Shared references to the cell lead to this memory only through this function, so all
        //   accesses while the cell is shared are atomic.
        unsafe { AtomicPtr::from_ptr(self.content.get().cast()) }
    }

    /// The value, if the cell is filled.
    #[inline]
    pub fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.peek()
    }

    #[inline]
    fn peek(&self) -> Option<&T> {
        // SAFETY: null, or a value that `set` released and that stays while the cell is borrowed.
        unsafe { self.content().load(Ordering::Acquire).as_ref() }
    }

    /// The value; if the cell is empty, `f` is run, and its value is put there unless another one was first.
    #[inline]
    pub fn get_or_init<F>(&self, py: Python<'_>, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        match self.get_or_try_init(py, || Ok::<T, std::convert::Infallible>(f())) {
            Ok(value) => value,
        }
    }

    /// [`get_or_init`](Self::get_or_init) with an initialiser that may fail.
    ///
    /// # Errors
    ///
    /// That of `f`, even if another thread has filled the cell meanwhile, as with PyO3's.
    #[inline]
    pub fn get_or_try_init<F, E>(&self, py: Python<'_>, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        match self.get(py) {
            Some(value) => Ok(value),
            None => self.init(py, f),
        }
    }

    /// Nothing is held while `f` runs: it may fail, panic, detach, or fill this cell itself.
    #[cold]
    fn init<F, E>(&self, py: Python<'_>, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        let value = f()?;
        drop(self.set(py, value)); // Which may run a `__del__`, when the cell is filled already.
        Ok(self.get(py).expect("the cell was just found to be filled"))
    }

    /// Fills the cell with `value`, if it is empty.
    ///
    /// # Errors
    ///
    /// The value back, if the cell is filled.
    pub fn set(&self, _py: Python<'_>, value: T) -> Result<(), T> {
        let content = Box::into_raw(Box::new(value));
        // Release: a thread that finds the pointer sees the value. A refused pointer is not read.
        let outcome = self.content().compare_exchange(
            ptr::null_mut(),
            content,
            Ordering::Release,
            Ordering::Relaxed,
        );
        // SAFETY: the box was not stored, so it is still this thread's.
        outcome.map_or_else(|_| Err(*unsafe { Box::from_raw(content) }), |_| Ok(()))
    }

    /// The value, if the cell is filled, to be changed in place.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.content.get_mut().as_deref_mut()
    }

    /// Takes the value out and leaves the cell empty.
    pub fn take(&mut self) -> Option<T> {
        self.content.get_mut().take().map(|content| *content)
    }

    /// The value, if the cell is filled.
    pub fn into_inner(self) -> Option<T> {
        self.content.into_inner().map(|content| *content)
    }
}

impl<T> GILOnceCell<Py<T>> {
    /// A cell with a new reference to the same object, or an empty one.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let clone = GILOnceCell::new();
        if let Some(object) = self.get(py) {
            let filled = clone.set(py, object.clone_ref(py));
            debug_assert!(filled.is_ok(), "nobody else has the new cell");
        }
        clone
    }
}

impl<T: PyTypeCheck> GILOnceCell<Py<T>> {
    /// The attribute of a module; if the cell is empty, it is imported and the cell filled with it.
    ///
    /// ```
    /// # use pyo3::{prelude::*, types::PyType};
    /// # use pyo3_sync::compat::GILOnceCell;
    /// fn fraction(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    ///     static FRACTION: GILOnceCell<Py<PyType>> = GILOnceCell::new();
    ///     FRACTION.import(py, "fractions", "Fraction")
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(fraction(py).is_ok()));
    /// ```
    ///
    /// # Errors
    ///
    /// If the module cannot be imported, has no such attribute, or the attribute is not a `T`.
    pub fn import<'py>(
        &self,
        py: Python<'py>,
        module_name: &str,
        attr_name: &str,
    ) -> PyResult<&Bound<'py, T>> {
        let object = self.get_or_try_init(py, || {
            let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
            Ok::<_, PyErr>(attribute.cast_into::<T>()?.unbind())
        })?;
        Ok(object.bind(py))
    }
}

impl GILOnceCell<Py<PyType>> {
    /// [`import`](Self::import) under the name that older versions of PyO3 gave it, for types only.
    ///
    /// # Errors
    ///
    /// As [`import`](Self::import).
    pub fn get_or_try_init_type_ref<'py>(
        &self,
        py: Python<'py>,
        module_name: &str,
        attr_name: &str,
    ) -> PyResult<&Bound<'py, PyType>> {
        self.import(py, module_name, attr_name)
    }
}

impl<T> Default for GILOnceCell<T> {
    fn default() -> Self {
        GILOnceCell::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for GILOnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("GILOnceCell");
        match self.peek() {
            Some(value) => tuple.field(value),
            None => tuple.field(&format_args!("<empty>")),
        };
        tuple.finish()
    }
}

/// PyO3's `GILProtected`: lends its value to whoever has a token, which where there is a GIL is one thread at a time.
///
/// ```
/// # #![allow(deprecated)]
/// use pyo3::prelude::*;
/// use pyo3_sync::compat::GILProtected;
/// use std::cell::RefCell;
///
/// static NUMBERS: GILProtected<RefCell<Vec<i32>>> = GILProtected::new(RefCell::new(Vec::new()));
///
/// # #[cfg(not(Py_GIL_DISABLED))] // Elsewhere it does not compile, and this is to be read everywhere.
/// fn add(py: Python<'_>, number: i32) {
///     NUMBERS.get(py).borrow_mut().push(number);
/// }
/// ```
///
/// On free-threaded Python a token proves nothing about other threads. An extension that is built for it, or for `abi3t`, still
/// compiles with statics of this type, but not with [`get`](Self::get): the error names what to use.
///
/// # Soundness
///
/// This type has the hole that PyO3's had. A thread that detaches, or calls into Python, keeps the `&T` it was lent while another
/// thread is lent the same. A `RefCell` counts its borrows and survives that; a type that tells re-entry from first entry by the
/// thread, as `qcell::TLCell`, does not. [`PyProtected`](crate::PyProtected) closes the hole: what it asks for instead, and why, is
/// told there.
#[deprecated(
    note = "there is no GIL to protect it on free-threaded Python: use `pyo3_sync::PyProtected`, see section 2 of MIGRATION.md"
)]
pub struct GILProtected<T> {
    value: T,
}

// SAFETY: with the GIL, and `get` exists only there, a thread that has a token is the only one that runs, so that `&T` passes from
// thread to thread like the value itself. What this leaves open is told at the type.
unsafe impl<T: Send> Sync for GILProtected<T> {}

impl<T> GILProtected<T> {
    /// Puts `value` under the protection of the GIL.
    pub const fn new(value: T) -> Self {
        GILProtected { value }
    }

    /// The value.
    pub fn get<'py>(&'py self, _py: Python<'py>) -> &'py T
    where
        T: ProtectedByTheGil,
    {
        &self.value
    }

    /// Returns the value to the garbage collector, in `__traverse__`.
    ///
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the value and visit it.
    pub fn traverse<'py>(&'py self, _visit: PyVisit<'py>) -> &'py T
    where
        T: ProtectedByTheGil,
    {
        &self.value
    }
}

/// What the GIL protects: everything where there is one, otherwise nothing.
#[diagnostic::on_unimplemented(
    message = "`GILProtected` protects nothing on free-threaded Python, which has no GIL",
    label = "several threads can be here at once",
    note = "use `pyo3_sync::PyProtected` for a `GILProtected<RefCell<T>>`, or `pyo3_sync::PyMutex`",
    note = "section 2 of MIGRATION.md (the chapter `migration` of the documentation) shows the change, and how to choose"
)]
// Implemented in `build_config.rs`.
pub trait ProtectedByTheGil: sealed::Sealed {}

/// Nobody says of a type of his own that a GIL protects it where there is none.
pub(crate) mod sealed {
    pub trait Sealed {}
}

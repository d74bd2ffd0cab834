//! Types that PyO3 has removed, with their old behavior, for porting in small steps.
//!
//! An extension written for PyO3 0.22 to 0.25 compiles with these types after its `use` lines are
//! changed, and behaves as before. They are a first step: most uses are better served by
//! [`PyOnceLock`](crate::PyOnceLock) and [`PyProtected`](crate::PyProtected). See
//! [`migration`](crate::migration).

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

use crate::import::retry::retry_import;

/// PyO3's `GILOnceCell`: a cell that is written once, by the first thread that finishes.
///
/// Unlike [`PyOnceLock`](crate::PyOnceLock), it never blocks. Threads that find it empty each run
/// their own initializer. The first value initializes the cell, and all threads get that value; the
/// other values are dropped. An initializer may access the cell that it initializes, and may run
/// another initializer of the same cell.
///
/// Use this type if an initializer is re-entrant, or if two initializers need each other, and
/// running them several times is harmless.
///
/// # Examples
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
/// # Differences from PyO3
///
/// PyO3's type moves the value into the cell, under a [`Once`](std::sync::Once). This type
/// allocates the value and stores the pointer in one step.
///
/// Because storing is one step, no thread sees a cell that is being written. Such a thread would
/// have to block while attached, and a forked child would block forever.
pub struct GILOnceCell<T> {
    /// An [`AtomicPtr`] while the cell is shared: one compare-exchange initializes it.
    ///
    /// An `Option<Box<T>>` has the same representation, and the compiler drops it. An `impl Drop`
    /// would make the drop check reject a cell whose value refers to something that is dropped
    /// first.
    content: UnsafeCell<Option<Box<T>>>,
}

// SAFETY: threads that share the cell share the value (hence `Sync`), and one of them can write it
// for another to drop (hence `Send`).
unsafe impl<T: Send + Sync> Sync for GILOnceCell<T> {}

// A panicking initializer leaves the cell empty: only the value can show a broken invariant.
impl<T: UnwindSafe> UnwindSafe for GILOnceCell<T> {}
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for GILOnceCell<T> {}

impl<T> GILOnceCell<T> {
    /// Creates an empty cell.
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

    /// Returns the value if the cell is initialized.
    #[inline]
    pub fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.peek()
    }

    #[inline]
    fn peek(&self) -> Option<&T> {
        // SAFETY:
        // - The pointer is null, or from `set`, which released the value that this load acquires.
        // - The value stays while the cell is borrowed.
        unsafe { self.content().load(Ordering::Acquire).as_ref() }
    }

    /// Returns the value, running `f` to initialize the cell if it is empty.
    ///
    /// If the cell is initialized while `f` runs, the value of `f` is dropped.
    #[inline]
    pub fn get_or_init<F>(&self, py: Python<'_>, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        match self.get_or_try_init(py, || Ok::<T, std::convert::Infallible>(f())) {
            Ok(value) => value,
        }
    }

    /// Returns the value, running the fallible `f` to initialize the cell if it is empty.
    ///
    /// # Errors
    ///
    /// Returns the error of `f`, even if another thread has initialized the cell meanwhile, as
    /// PyO3's type does.
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

    /// Runs `f` without holding the cell: `f` may fail, panic, detach, or initialize this cell.
    #[cold]
    fn init<F, E>(&self, py: Python<'_>, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        let value = f()?;
        drop(self.set(py, value)); // May run a `__del__`, if the cell is already initialized.
        Ok(self.get(py).expect("the cell was just found to be filled"))
    }

    /// Initializes the cell with `value` if it is empty.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell is already initialized.
    pub fn set(&self, _py: Python<'_>, value: T) -> Result<(), T> {
        let content = Box::into_raw(Box::new(value));
        // Release: publishes the value. Relaxed on failure: the current pointer is not
        // dereferenced.
        let outcome = self.content().compare_exchange(
            ptr::null_mut(),
            content,
            Ordering::Release,
            Ordering::Relaxed,
        );
        // SAFETY: the pointer is from `Box::into_raw` and was not stored, so no other thread has
        // it.
        outcome.map_or_else(|_| Err(*unsafe { Box::from_raw(content) }), |_| Ok(()))
    }

    /// Returns a mutable reference to the value if the cell is initialized.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.content.get_mut().as_deref_mut()
    }

    /// Takes the value out of the cell, leaving it empty.
    pub fn take(&mut self) -> Option<T> {
        self.content.get_mut().take().map(|content| *content)
    }

    /// Consumes the cell, returning the value if the cell is initialized.
    pub fn into_inner(self) -> Option<T> {
        self.content.into_inner().map(|content| *content)
    }
}

impl<T> GILOnceCell<Py<T>> {
    /// Creates a cell with a new reference to the same object, or an empty cell if this one is.
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
    /// Returns the attribute `attr_name` of a module, importing it first if the cell is empty.
    ///
    /// # Examples
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
    /// Returns an exception if the module cannot be imported, if it has no such attribute, or if
    /// the attribute is not a `T`.
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
    /// Same as [`import`](Self::import), under its name in older versions of PyO3. For types only.
    ///
    /// # Errors
    ///
    /// Returns an exception where [`import`](Self::import) does.
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

/// PyO3's `GILProtected`: protects a value by the GIL.
///
/// Any thread with a token may borrow the value. With a GIL, one thread at a time has a token.
///
/// # Examples
///
/// ```
/// # #![allow(deprecated)]
/// use pyo3::prelude::*;
/// use pyo3_sync::compat::GILProtected;
/// use std::cell::RefCell;
///
/// static NUMBERS: GILProtected<RefCell<Vec<i32>>> = GILProtected::new(RefCell::new(Vec::new()));
///
/// # #[cfg(not(Py_GIL_DISABLED))] // Does not compile without a GIL.
/// fn add(py: Python<'_>, number: i32) {
///     NUMBERS.get(py).borrow_mut().push(number);
/// }
/// ```
///
/// # Platform support
///
/// On free-threaded Python, several threads have a token at the same time. Extensions built for it,
/// or for `abi3t`, still compile with statics of this type, but not with calls of
/// [`get`](Self::get). The error message names the replacements.
///
/// # Soundness
///
/// This type is unsound in the same way as PyO3's. A thread that detaches, or calls into Python,
/// keeps its `&T` while another thread borrows the same value. A `RefCell` counts its borrows and
/// stays sound. A type that identifies its user by the thread, such as `qcell::TLCell`, does not.
/// [`PyProtected`](crate::PyProtected) is sound; its page lists its requirements.
#[deprecated(
    note = "there is no GIL to protect it on free-threaded Python: use `pyo3_sync::PyProtected`, \
            see section 2 of MIGRATION.md"
)]
pub struct GILProtected<T> {
    value: T,
}

// SAFETY:
// - `get` and `traverse` exist only with a GIL, where one attached thread runs at a time. A `&T`
//   then passes from thread to thread as the value itself would, which `Send` allows.
// - "Soundness" in the documentation of the type describes the exception.
unsafe impl<T: Send> Sync for GILProtected<T> {}

impl<T> GILProtected<T> {
    /// Creates a container that protects `value` by the GIL.
    pub const fn new(value: T) -> Self {
        GILProtected { value }
    }

    /// Returns the value.
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

/// Implemented by all types on builds with a GIL, and by no type on other builds.
#[diagnostic::on_unimplemented(
    message = "`GILProtected` protects nothing on free-threaded Python, which has no GIL",
    label = "several threads can be here at once",
    note = "use `pyo3_sync::PyProtected` for a `GILProtected<RefCell<T>>`, or `pyo3_sync::PyMutex`",
    note = "section 2 of MIGRATION.md (the chapter `migration` of the documentation) \
            shows the change, and how to choose"
)]
pub trait ProtectedByTheGil: sealed::Sealed {}

#[cfg(not(Py_GIL_DISABLED))]
impl<T: ?Sized> ProtectedByTheGil for T {}

/// Prevents other crates from implementing [`ProtectedByTheGil`] on builds without a GIL.
mod sealed {
    pub trait Sealed {}

    #[cfg(not(Py_GIL_DISABLED))]
    impl<T: ?Sized> Sealed for T {}
}

//! [`PyOnceLock`]: a cell initialized once, by code that may call into Python.

mod raw;
mod storage;

use std::{
    convert::Infallible,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
};

use pyo3::{PyTypeCheck, prelude::*, pyclass::PyVisit, types::PyAnyMethods};

use self::{
    raw::{Begin, InitGuard, KIND, RawOnce},
    storage::Storage,
};
use crate::{
    error::{DeadlockError, WaitError},
    import::retry::retry_import,
    wait::{Failure, LockKind, Wait},
};

/// A cell that is initialized once, by code that may call into Python.
///
/// Reading an initialized cell costs one load.
///
/// The initializer runs exactly once, attached. It may import modules, call back into Python, and
/// detach. Threads that access the cell while the initializer runs block, detached. The cell never
/// detaches the initializing thread. If the initializer fails or panics, the cell stays empty, and
/// the next thread runs its own initializer.
///
/// # Examples
///
/// ```
/// use pyo3::{prelude::*, types::PyList};
/// use pyo3_sync::PyOnceLock;
///
/// fn shared_list<'py>(py: Python<'py>) -> &'py Bound<'py, PyList> {
///     static LIST: PyOnceLock<Py<PyList>> = PyOnceLock::new();
///
///     LIST.get_or_init(py, || PyList::empty(py).unbind()).bind(py)
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert_eq!(shared_list(py).len(), 0));
/// ```
///
/// # Deadlocks
///
/// A deadlock is reported if
///
/// - the initializer accesses the cell that it initializes, directly or through Python code;
/// - the wait closes a cycle of threads, each of which waits for a cell that the next one
///   initializes, a lock of this crate that it holds, or a module that it imports;
/// - the finalizing thread waits at exit for a thread that can no longer run.
///
/// | method | report |
/// |---|---|
/// | [`get_or_init_checked`](Self::get_or_init_checked) | a [`DeadlockError`] |
/// | [`get_or_try_init_py`](Self::get_or_try_init_py) | a Python exception |
/// | [`wait_with`](Self::wait_with) | a [`WaitError`] |
/// | all other methods that wait | a panic |
///
/// # Forks
///
/// In a forked child, a cell whose initializer ran on another thread counts as empty: the next
/// thread that accesses it runs its own initializer. What the lost initializer had created is
/// leaked.
///
/// # Differences from `std` and PyO3
///
/// A `PyOnceLock` replaces `pyo3::sync::PyOnceLock`, `pyo3::sync::OnceLockExt`, and most uses of
/// `GILOnceCell`: changing the `use` line is enough.
///
/// | elsewhere | `PyOnceLock` |
/// |---|---|
/// | `GILOnceCell`: several initializers run, also re-entrant ones | one runs; re-entry panics |
/// | `get_mut_or_init`, `get_mut_or_try_init` (unstable) | `get_or_init`, then `get_mut` |
/// | checked `set`, `try_insert` | `get_or_init_checked(py, \|\| value)` |
/// | interruptible `set`, `try_insert` | `get_or_try_init_py(py, \|\| Ok(value))` |
/// | forms with a timeout | [`get`](Self::get), which does not wait |
///
/// The closures in the third and fourth row can record that they were called. Code that needs
/// several or re-entrant initializers uses [`compat::GILOnceCell`](crate::compat::GILOnceCell).
///
/// # Memory
///
/// A cell is one word and the value: 16 bytes for a `Py<T>`. With debug assertions the word is
/// twice as large.
pub struct PyOnceLock<T> {
    storage: Storage<T>,
}

// A panicking initializer leaves the cell empty: only the value can show a broken invariant.
impl<T: UnwindSafe> UnwindSafe for PyOnceLock<T> {}
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for PyOnceLock<T> {}

impl<T> PyOnceLock<T> {
    /// Creates an empty cell.
    #[track_caller]
    pub const fn new() -> Self {
        PyOnceLock {
            storage: Storage::new(),
        }
    }

    #[inline(always)]
    fn raw(&self) -> &RawOnce {
        self.storage.raw()
    }

    /// Returns the value if the cell is initialized. Never blocks.
    #[inline]
    pub fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.peek()
    }

    /// Returns the value if the cell is initialized. Needs no token and never blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use pyo3_sync::PyOnceLock;
    /// static LIMIT: PyOnceLock<usize> = PyOnceLock::new();
    ///
    /// fn limit() -> usize {
    ///     LIMIT.peek().copied().unwrap_or(100)
    /// }
    /// # assert_eq!(limit(), 100);
    /// ```
    #[inline]
    pub fn peek(&self) -> Option<&T> {
        if self.raw().is_complete() {
            // SAFETY: the cell is complete.
            Some(unsafe { self.assume_filled() })
        } else {
            None
        }
    }

    /// Returns `true` if the cell is initialized.
    #[inline]
    pub fn is_initialized(&self) -> bool {
        self.raw().is_complete()
    }

    /// Returns the value, initializing the cell with `f` first if it is empty.
    ///
    /// If several threads call this method on an empty cell, one of them runs its `f`, and the
    /// other threads block until it returns.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics, or instead of [deadlocking](Self#deadlocks).
    #[inline]
    #[track_caller]
    pub fn get_or_init<F>(&self, py: Python<'_>, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        match self.get_or_try_init(py, || Ok::<T, Infallible>(f())) {
            Ok(value) => value,
        }
    }

    /// Returns the value, initializing the cell with the fallible `f` first if it is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyOnceLock;
    /// fn loads(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    ///     static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ///     LOADS.get_or_try_init(py, || Ok(py.import("json")?.getattr("loads")?.unbind()))
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(loads(py).is_ok()));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of `f`. The cell then stays empty, and the next thread runs its own `f`.
    ///
    /// # Panics
    ///
    /// Panics where [`get_or_init`](Self::get_or_init) does.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<F, E>(&self, py: Python<'_>, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        let caller = Location::caller();
        match self.fill(py, KIND, &Wait::FOREVER, caller, f) {
            Ok(value) => Ok(value),
            Err(InitError::Initializer(error)) => Err(error),
            Err(InitError::Wait(failure)) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Returns the value, initializing the cell with `f`. The wait is interruptible by signals.
    ///
    /// Same as [`get_or_try_init`](Self::get_or_try_init), except that deadlocks are reported as
    /// exceptions, and that the main thread runs Python signal handlers while it waits for another
    /// initializer: Ctrl-C ends the wait.
    ///
    /// # Errors
    ///
    /// Returns the error of `f`. Without calling `f`, returns a
    /// [`DeadlockError`](crate::DeadlockError), or the exception that a signal handler raised
    /// during the wait, usually a `KeyboardInterrupt`.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init_py<F>(&self, py: Python<'_>, f: F) -> PyResult<&T>
    where
        F: FnOnce() -> PyResult<T>,
    {
        const WAIT: Wait = Wait::new().interruptible();
        self.fill(py, KIND, &WAIT, Location::caller(), f)
            .map_err(|error| error.into_py_err(py))
    }

    /// Returns the value as [`get_or_init`](Self::get_or_init) does, reporting deadlocks as errors.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`], without calling `f`, if the wait for another initializer would
    /// never end, or if the calling thread is running the initializer of this cell.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics.
    #[inline]
    #[track_caller]
    pub fn get_or_init_checked<F>(&self, py: Python<'_>, f: F) -> Result<&T, DeadlockError>
    where
        F: FnOnce() -> T,
    {
        let caller = Location::caller();
        self.fill_with(py, KIND, &Wait::FOREVER, caller, f)
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Returns the value, initializing the cell with `value` first if it is not initialized.
    ///
    /// Does not wait for a running initializer, whose value is then dropped.
    #[track_caller]
    pub(crate) fn get_or_insert(&self, py: Python<'_>, value: T) -> &T {
        match self.raw().try_take_over(py) {
            Some(running) => self.complete_or_drop(py, running, value, Location::caller()),
            // SAFETY: `try_take_over` returns `None` only if the cell is complete.
            None => unsafe { self.assume_filled() },
        }
    }

    /// Same as [`get_or_init`](Self::get_or_init), under the name of `pyo3::sync::OnceLockExt`.
    #[inline]
    #[track_caller]
    pub fn get_or_init_py_attached<F>(&self, py: Python<'_>, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        self.get_or_init(py, f)
    }

    /// Initializes the cell with `value` if it is empty.
    ///
    /// Blocks while another thread runs an initializer.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell is already initialized.
    ///
    /// # Panics
    ///
    /// Panics instead of [deadlocking](Self#deadlocks).
    #[track_caller]
    pub fn set(&self, py: Python<'_>, value: T) -> Result<(), T> {
        match self.try_insert(py, value) {
            Ok(_) => Ok(()),
            Err((_, value)) => Err(value),
        }
    }

    /// Initializes the cell with `value` if it is empty, returning the value in the cell.
    ///
    /// Blocks while another thread runs an initializer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyOnceLock;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let cell = PyOnceLock::new();
    /// assert_eq!(cell.try_insert(py, 1), Ok(&1));
    /// assert_eq!(cell.try_insert(py, 2), Err((&1, 2)));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the value in the cell and `value` if the cell is already initialized.
    ///
    /// # Panics
    ///
    /// Panics where [`set`](Self::set) does.
    #[track_caller]
    pub fn try_insert(&self, py: Python<'_>, value: T) -> Result<&T, (&T, T)> {
        let caller = Location::caller();
        if let Some(filled) = self.peek() {
            return Err((filled, value));
        }
        match self.raw().begin(py, KIND, &Wait::FOREVER, caller) {
            // SAFETY: the cell is complete.
            Ok(Begin::Complete) => Err((unsafe { self.assume_filled() }, value)),
            Ok(Begin::Run(running)) => match self.complete(running, value) {
                Ok(filled) => Ok(filled),
                Err(value) => Err((self.filled_by_another(py, caller), value)),
            },
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Blocks, detached, until another thread has initialized the cell.
    ///
    /// Blocks forever if no thread does, as [`std::sync::OnceLock::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyOnceLock;
    /// static SETTINGS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ///
    /// /// Called by worker threads, which may start before Python code has set anything.
    /// fn settings(py: Python<'_>) -> &Py<PyAny> {
    ///     SETTINGS.wait(py)
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics instead of [deadlocking](Self#deadlocks), for example if the calling thread is
    /// running the initializer of this cell.
    #[track_caller]
    pub fn wait(&self, py: Python<'_>) -> &T {
        match self.wait_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(value) => value,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Blocks as [`wait`](Self::wait) does, but as `wait` says: with a timeout, interruptible by
    /// signals, or both.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where [`wait`](Self::wait) panics, unless there is a timeout.
    #[track_caller]
    pub fn wait_with(&self, py: Python<'_>, wait: impl Into<Wait>) -> Result<&T, WaitError> {
        self.wait_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    fn wait_at(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<&T, Failure> {
        if !self.raw().is_complete() {
            self.raw().wait(py, wait, caller)?;
        }
        // SAFETY: this thread saw the cell complete, or `wait` returned because it is.
        Ok(unsafe { self.assume_filled() })
    }

    /// Returns a mutable reference to the value if the cell is initialized.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.storage.get_mut()
    }

    /// Takes the value out of the cell, leaving it empty.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// Consumes the cell, returning the value if the cell is initialized.
    pub fn into_inner(self) -> Option<T> {
        self.storage.into_inner()
    }

    /// Returns the value to the garbage collector, in `__traverse__`. Needs no token.
    ///
    /// Returns `None` while the cell is empty. The reference ends with the visit.
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the value and visit it.
    ///
    /// # Examples
    ///
    /// ```
    /// use pyo3::{PyTraverseError, PyVisit, prelude::*};
    /// use pyo3_sync::PyOnceLock;
    ///
    /// #[pyclass]
    /// struct Lazy(PyOnceLock<Py<PyAny>>);
    ///
    /// #[pymethods]
    /// impl Lazy {
    ///     fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
    ///         self.0.traverse(&visit).map_or(Ok(()), |object| visit.call(object))
    ///     }
    ///
    ///     fn __clear__(&mut self) {
    ///         self.0.take();
    ///     }
    /// }
    /// ```
    // I6: only attached threads complete a cell, so the result is the same during one stop of the
    // world.
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        self.peek()
    }

    /// Returns the value, initializing the cell with the infallible `f` first if it is empty.
    #[inline]
    pub(crate) fn fill_with(
        &self,
        py: Python<'_>,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
        f: impl FnOnce() -> T,
    ) -> Result<&T, Failure> {
        let filled = self.fill(py, kind, wait, caller, || Ok::<T, Infallible>(f()));
        filled.map_err(|error| match error {
            InitError::Wait(failure) => failure,
        })
    }

    /// Returns the value, initializing the cell with `f` first if it is empty.
    ///
    /// Deadlock errors call the cell by `kind`, the type that the caller uses.
    #[inline]
    pub(crate) fn fill<E>(
        &self,
        py: Python<'_>,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, InitError<E>> {
        if let Some(value) = self.peek() {
            return Ok(value);
        }
        self.fill_slow(py, kind, wait, caller, f)
    }

    /// Runs the initializer `f`, or waits for the one that another thread runs.
    ///
    /// The initializer may
    ///
    /// - fail or panic: `InitGuard` is dropped, and the cell is empty again (I9);
    /// - access this cell: `begin` finds that this thread owns the cell and reports a deadlock;
    /// - succeed after `import` has completed the cell: its value is dropped, and the caller gets
    ///   the value in the cell.
    #[cold]
    fn fill_slow<E>(
        &self,
        py: Python<'_>,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, InitError<E>> {
        let begun = self.raw().begin(py, kind, wait, caller);
        match begun.map_err(InitError::Wait)? {
            // SAFETY: the cell is complete.
            Begin::Complete => Ok(unsafe { self.assume_filled() }),
            Begin::Run(running) => {
                let value = f().map_err(InitError::Initializer)?;
                Ok(self.complete_or_drop(py, running, value, caller))
            }
        }
    }

    /// Completes the cell with `value`.
    ///
    /// Returns `value` as an error if another thread has taken over the cell.
    #[inline]
    fn complete(&self, running: InitGuard<'_>, value: T) -> Result<&T, T> {
        let mut value = Some(value);
        let write = || {
            if let Some(value) = value.take() {
                // SAFETY: `InitGuard::complete` calls this while no other thread accesses the
                // value.
                unsafe { self.storage.value().write(value) };
            }
        };
        // SAFETY:
        // - `write` moves a value into this cell.
        // - It cannot panic, detach or call into Python: the cell holds no value, so nothing is
        //   dropped.
        unsafe { running.complete(write) };
        match value {
            // SAFETY: `write` took the value, so this thread has completed the cell.
            None => Ok(unsafe { self.assume_filled() }),
            Some(value) => Err(value),
        }
    }

    /// Completes the cell with `value`, or drops `value` if another thread has taken over the cell.
    ///
    /// Returns the value in the cell.
    #[inline]
    fn complete_or_drop(
        &self,
        py: Python<'_>,
        running: InitGuard<'_>,
        value: T,
        caller: &'static Location<'static>,
    ) -> &T {
        match self.complete(running, value) {
            Ok(filled) => filled,
            Err(value) => {
                drop(value);
                self.filled_by_another(py, caller)
            }
        }
    }

    /// Returns the value of the thread that has taken over the cell.
    #[cold]
    fn filled_by_another(&self, py: Python<'_>, caller: &'static Location<'static>) -> &T {
        // Short: that thread had its value before it took over the cell.
        match self.wait_at(py, &Wait::FOREVER, caller) {
            Ok(filled) => filled,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Returns the value of a complete cell.
    ///
    /// # Safety
    ///
    /// The calling thread has seen the cell complete, or has completed it.
    #[inline(always)]
    unsafe fn assume_filled(&self) -> &T {
        // SAFETY:
        // - A complete cell holds a value and stays complete while it is borrowed.
        // - The load that saw it complete acquired the value, unless this thread stored it.
        unsafe { &*self.storage.value() }
    }
}

/// The error of an initialization.
pub(crate) enum InitError<E> {
    /// The initializer failed.
    Initializer(E),
    /// The wait for another initializer failed; the initializer of this thread did not run.
    Wait(Failure),
}

impl InitError<PyErr> {
    /// Converts the error to an exception.
    pub(crate) fn into_py_err(self, py: Python<'_>) -> PyErr {
        match self {
            InitError::Initializer(error) => error,
            InitError::Wait(failure) => WaitError::new(py, failure).into(),
        }
    }
}

impl<T> PyOnceLock<Py<T>> {
    /// Creates a cell with a new reference to the same object, or an empty cell if this one is.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        self.get(py)
            .map_or_else(PyOnceLock::new, |object| object.clone_ref(py).into())
    }
}

impl<T: PyTypeCheck> PyOnceLock<Py<T>> {
    /// Returns the attribute `attr_name` of a module, importing it first if the cell is empty.
    ///
    /// The cell is not held while the import runs, because a thread that imports waits for the
    /// import locks of the interpreter. If several threads call this method on an empty cell, each
    /// of them imports, which is harmless, and the first object initializes the cell. It does so
    /// even while another thread runs an initializer, whose value is then dropped.
    ///
    /// An import that the interpreter refuses with `_DeadlockError` is repeated, as by
    /// [`PyImport`](crate::PyImport).
    ///
    /// # Examples
    ///
    /// ```
    /// # use pyo3::{prelude::*, types::{PyDict, PyType}};
    /// # use pyo3_sync::PyOnceLock;
    /// fn ordered_dict<'py>(
    ///     py: Python<'py>,
    ///     dict: Bound<'py, PyDict>,
    /// ) -> PyResult<Bound<'py, PyAny>> {
    ///     static ORDERED_DICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    ///     ORDERED_DICT.import(py, "collections", "OrderedDict")?.call1((dict,))
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(ordered_dict(py, PyDict::new(py)).is_ok()));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an exception if the module cannot be imported, if it has no such attribute, or if
    /// the attribute is not a `T`.
    #[track_caller]
    pub fn import<'py>(
        &self,
        py: Python<'py>,
        module_name: &str,
        attr_name: &str,
    ) -> PyResult<&Bound<'py, T>> {
        if let Some(object) = self.get(py) {
            return Ok(object.bind(py));
        }
        self.import_slow(py, module_name, attr_name)
    }

    #[cold]
    fn import_slow<'py>(
        &self,
        py: Python<'py>,
        module_name: &str,
        attr_name: &str,
    ) -> PyResult<&Bound<'py, T>> {
        let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
        let object = attribute.cast_into::<T>()?.unbind();
        Ok(self.get_or_insert(py, object).bind(py))
    }
}

impl<T> Default for PyOnceLock<T> {
    #[track_caller]
    fn default() -> Self {
        PyOnceLock::new()
    }
}

/// Creates an initialized cell.
impl<T> From<T> for PyOnceLock<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        PyOnceLock {
            storage: Storage::completed(value),
        }
    }
}

impl<T: Clone> Clone for PyOnceLock<T> {
    fn clone(&self) -> Self {
        self.peek()
            .map_or_else(PyOnceLock::new, |value| value.clone().into())
    }
}

impl<T: fmt::Debug> fmt::Debug for PyOnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("PyOnceLock");
        match self.peek() {
            Some(value) => tuple.field(value),
            None => tuple.field(&format_args!("<empty>")),
        };
        tuple.finish()
    }
}

impl<T: PartialEq> PartialEq for PyOnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.peek() == other.peek()
    }
}

impl<T: Eq> Eq for PyOnceLock<T> {}

//! [`PyOnceLock`]: a cell that is filled once, by an initialiser that may call into Python.

mod raw;
mod storage;

use std::{
    convert::Infallible,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
};

use pyo3::{PyTypeCheck, prelude::*, pyclass::PyVisit, types::PyAnyMethods};

use self::{
    raw::{Begin, RawOnce, Running},
    storage::Storage,
};
use crate::{
    deadlock::{DeadlockError, LockKind},
    import::retry_import,
    wait::{Patience, Refusal},
};

/// A cell that is filled once, and read for the cost of one load from then on.
///
/// It takes the place of `pyo3::sync::PyOnceLock`, and of PyO3's `GILOnceCell` as it is mostly used: changing the `use` line
/// is enough. `GILOnceCell` ran the initialisers of several threads, and one within the other; an initialiser that relies on
/// being entered again gets a panic here.
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
/// The initialiser runs exactly once, attached, and may do as it likes: import, call back, detach. Threads that arrive
/// meanwhile wait, detached from the interpreter; the thread that initialises never detaches on behalf of the cell.
/// If the initialiser fails or panics, the cell is empty as before and the next thread tries.
///
/// # Deadlocks
///
/// Waits that could never end are a panic from [`get_or_init`](Self::get_or_init), [`get_or_try_init`](Self::get_or_try_init),
/// [`set`](Self::set) and [`wait`](Self::wait), an error from [`get_or_init_checked`](Self::get_or_init_checked), and an exception from
/// [`get_or_try_init_py`](Self::get_or_try_init_py) and [`wait_interruptible`](Self::wait_interruptible):
///
/// - of an initialiser that asks for the cell it is filling, directly or through Python code;
/// - of one of several threads each of which waits for a cell that another of them is filling, or for a lock of this crate that it holds,
///   or for a module that it is importing;
/// - of the finalising thread, at exit, for one that cannot run any more.
///
/// In the child of a fork, a cell that a thread was filling which does not exist there is empty, and filled afresh by the next that asks.
/// What that thread had made by then is leaked.
///
/// # Not here
///
/// - Checked and interruptible forms of [`set`](Self::set) and [`try_insert`](Self::try_insert): `get_or_init_checked(py, || value)` and
///   `get_or_try_init_py(py, || Ok(value))` wait for the same, and the closure knows whether it was called.
/// - Forms with a limit: what takes too long is somebody's initialiser, and a thread that does without the value asks
///   [`get`](Self::get).
/// - Of [`std::sync::OnceLock`]: `get_mut_or_init` and `get_mut_or_try_init`, which are not stable there:
///   [`get_mut`](Self::get_mut) after [`get_or_init`](Self::get_or_init). Of `pyo3::sync::PyOnceLock` nothing is missing, nor of
///   `pyo3::sync::OnceLockExt`.
///
/// # Memory
///
/// A word and the value: 16 bytes for a `Py<T>`. With debug assertions the word is twice as large.
pub struct PyOnceLock<T> {
    storage: Storage<T>,
}

// A panicking initializer leaves the cell empty: only the value can show a broken invariant.
impl<T: UnwindSafe> UnwindSafe for PyOnceLock<T> {}
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for PyOnceLock<T> {}

impl<T> PyOnceLock<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        PyOnceLock {
            storage: Storage::new(),
        }
    }

    #[inline(always)]
    fn raw(&self) -> &RawOnce {
        self.storage.raw()
    }

    /// The value, if the cell is filled.
    #[inline]
    pub fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.peek()
    }

    /// The value, if the cell is filled, for code that has no token.
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

    /// Whether the cell is filled.
    #[inline]
    pub fn is_initialized(&self) -> bool {
        self.raw().is_complete()
    }

    /// The value; if the cell is empty, `f` fills it.
    ///
    /// Of all threads that arrive before the cell is filled one runs its `f`, and the others wait for it.
    ///
    /// # Panics
    ///
    /// If `f` panics, or if the wait could never end: see [Deadlocks](Self#deadlocks).
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

    /// The value; if the cell is empty, `f` fills it, unless it fails.
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
    /// That of `f`. The cell is empty then, and the next thread runs its own `f`.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](Self::get_or_init).
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<F, E>(&self, py: Python<'_>, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        let (kind, asked_at) = (LockKind::OnceLock, Location::caller());
        match self.fill(py, kind, Patience::Forever, asked_at, f) {
            Ok(value) => Ok(value),
            Err(FillError::Initializer(error)) => Err(error),
            Err(FillError::Refusal(refusal)) => refusal.into_deadlock().panic(),
        }
    }

    /// [`get_or_try_init`](Self::get_or_try_init) for initialisers that fail with a Python exception: a deadlock is an
    /// exception too, and not a panic. And a main thread that waits here for another thread's initialiser runs Python's
    /// signal handlers meanwhile, so that Ctrl-C ends the wait.
    ///
    /// # Errors
    ///
    /// That of `f`; a [`DeadlockError`](crate::DeadlockError); or what a signal handler raised, `KeyboardInterrupt` as a
    /// rule, while this thread waited. `f` has not run then.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init_py<F>(&self, py: Python<'_>, f: F) -> PyResult<&T>
    where
        F: FnOnce() -> PyResult<T>,
    {
        let (kind, asked_at) = (LockKind::OnceLock, Location::caller());
        Ok(self.fill(py, kind, Patience::Interruptible, asked_at, f)?)
    }

    /// [`get_or_init`](Self::get_or_init), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] if the wait for another thread's initialiser could never end, or this thread is in the middle of the
    /// initialiser.
    #[inline]
    #[track_caller]
    pub fn get_or_init_checked<F>(&self, py: Python<'_>, f: F) -> Result<&T, DeadlockError>
    where
        F: FnOnce() -> T,
    {
        let (kind, asked_at) = (LockKind::OnceLock, Location::caller());
        self.fill_with(py, kind, Patience::Forever, asked_at, f)
            .map_err(Refusal::into_deadlock)
    }

    /// Puts `value` in the cell, even if another thread is running its initialiser, unless it is filled already. Gives what is in it.
    #[track_caller]
    pub(crate) fn insert_first(&self, py: Python<'_>, value: T) -> &T {
        match self.raw().seize(py) {
            Some(running) => self.complete_or_drop(py, running, value, Location::caller()),
            // SAFETY: `seize` refuses because the cell is complete.
            None => unsafe { self.assume_filled() },
        }
    }

    /// [`get_or_init`](Self::get_or_init) under the name that `pyo3::sync::OnceLockExt` gives it.
    #[inline]
    #[track_caller]
    pub fn get_or_init_py_attached<F>(&self, py: Python<'_>, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        self.get_or_init(py, f)
    }

    /// Fills the cell with `value`, if it is empty.
    ///
    /// While an initialiser runs in another thread, this waits for its outcome.
    ///
    /// # Errors
    ///
    /// The value back, if the cell is filled.
    ///
    /// # Panics
    ///
    /// If the wait could never end: see [Deadlocks](Self#deadlocks).
    #[track_caller]
    pub fn set(&self, py: Python<'_>, value: T) -> Result<(), T> {
        match self.try_insert(py, value) {
            Ok(_) => Ok(()),
            Err((_, value)) => Err(value),
        }
    }

    /// [`set`](Self::set) that gives the value in the cell, be it this one or an earlier one.
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
    /// The value in the cell, and the one given back.
    ///
    /// # Panics
    ///
    /// As [`set`](Self::set).
    #[track_caller]
    pub fn try_insert(&self, py: Python<'_>, value: T) -> Result<&T, (&T, T)> {
        let asked_at = Location::caller();
        if let Some(filled) = self.peek() {
            return Err((filled, value));
        }
        match self
            .raw()
            .begin(py, LockKind::OnceLock, Patience::Forever, asked_at)
        {
            // SAFETY: the cell is complete.
            Ok(Begin::Complete) => Err((unsafe { self.assume_filled() }, value)),
            Ok(Begin::Run(running)) => match self.complete(running, value) {
                Ok(filled) => Ok(filled),
                Err(value) => Err((self.filled_by_another(py, asked_at), value)),
            },
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// Waits, detached, until some thread has filled the cell.
    ///
    /// If none ever does, this waits for ever, as [`std::sync::OnceLock::wait`].
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
    /// If this thread is the one that is filling it, or if no other can any more: see [Deadlocks](Self#deadlocks).
    #[track_caller]
    pub fn wait(&self, py: Python<'_>) -> &T {
        match self.wait_patiently(py, Patience::Forever, Location::caller()) {
            Ok(value) => value,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`wait`](Self::wait) that a main thread can be called away from: it runs Python's signal handlers while it waits.
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`](crate::DeadlockError) where [`wait`](Self::wait) panics.
    #[track_caller]
    pub fn wait_interruptible(&self, py: Python<'_>) -> PyResult<&T> {
        Ok(self.wait_patiently(py, Patience::Interruptible, Location::caller())?)
    }

    fn wait_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<&T, Refusal> {
        if !self.raw().is_complete() {
            self.raw().wait(py, patience, asked_at)?;
        }
        // SAFETY: the cell was found complete, or has been waited for.
        Ok(unsafe { self.assume_filled() })
    }

    /// The value, if the cell is filled, to be changed in place.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.storage.get_mut()
    }

    /// Takes the value out and leaves the cell empty.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if the cell is filled.
    pub fn into_inner(self) -> Option<T> {
        self.storage.into_inner()
    }

    /// Returns the value to the garbage collector, in `__traverse__`, where there is no token.
    ///
    /// Returns `None` while the cell is empty. The reference ends with the visit.
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the value and visit it.
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
    // The answer does not change while the world is stopped, because only attached threads complete a cell.
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        self.peek()
    }

    /// [`fill`](Self::fill) with an initialiser that does not fail.
    #[inline]
    pub(crate) fn fill_with(
        &self,
        py: Python<'_>,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
        f: impl FnOnce() -> T,
    ) -> Result<&T, Refusal> {
        let filled = self.fill(py, kind, patience, asked_at, || Ok::<T, Infallible>(f()));
        filled.map_err(|error| match error {
            FillError::Refusal(refusal) => refusal,
        })
    }

    /// The value; if the cell is empty, `f` fills it. `kind` is what the author of the call knows the cell as.
    #[inline]
    pub(crate) fn fill<E>(
        &self,
        py: Python<'_>,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, FillError<E>> {
        if let Some(value) = self.peek() {
            return Ok(value);
        }
        self.fill_slow(py, kind, patience, asked_at, f)
    }

    /// What the initialiser may do to us:
    ///
    /// - fail or panic: `Running` is dropped, and the cell is empty again;
    /// - ask for this cell: `begin` finds this thread as its owner and reports a deadlock;
    /// - succeed after the cell was filled by `import`: its value is dropped, and the caller gets the one in the cell.
    #[cold]
    fn fill_slow<E>(
        &self,
        py: Python<'_>,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, FillError<E>> {
        let begun = self.raw().begin(py, kind, patience, asked_at);
        match begun.map_err(FillError::Refusal)? {
            // SAFETY: the cell is complete.
            Begin::Complete => Ok(unsafe { self.assume_filled() }),
            Begin::Run(running) => {
                let value = f().map_err(FillError::Initializer)?;
                Ok(self.complete_or_drop(py, running, value, asked_at))
            }
        }
    }

    /// Moves `value` into the cell, and gives it there; or gives it back, if the cell was taken from this thread.
    #[inline]
    fn complete(&self, running: Running<'_>, value: T) -> Result<&T, T> {
        let mut value = Some(value);
        let write = || {
            if let Some(value) = value.take() {
                // SAFETY: `complete` calls this while no other thread reads or writes the value.
                unsafe { self.storage.value().write(value) };
            }
        };
        // SAFETY: `write` moves the value in and does nothing else: the cell was empty, so nothing is dropped.
        unsafe { running.complete(write) };
        match value {
            // SAFETY: the cell has just been completed.
            None => Ok(unsafe { self.assume_filled() }),
            Some(value) => Err(value),
        }
    }

    /// Moves `value` into the cell, or drops it if another one has got there first, and gives the one in the cell.
    #[inline]
    fn complete_or_drop(
        &self,
        py: Python<'_>,
        running: Running<'_>,
        value: T,
        asked_at: &'static Location<'static>,
    ) -> &T {
        match self.complete(running, value) {
            Ok(filled) => filled,
            Err(value) => {
                drop(value);
                self.filled_by_another(py, asked_at)
            }
        }
    }

    /// The value of the thread that has taken the cell from this one.
    #[cold]
    fn filled_by_another(&self, py: Python<'_>, asked_at: &'static Location<'static>) -> &T {
        // It takes a moment at most: that thread had its value already.
        match self.wait_patiently(py, Patience::Forever, asked_at) {
            Ok(filled) => filled,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// # Safety
    ///
    /// The cell was seen complete by this thread.
    #[inline(always)]
    unsafe fn assume_filled(&self) -> &T {
        // SAFETY:
        // - A complete cell holds a value and stays complete while it is borrowed.
        // - The load that saw it complete acquired what the completing store released.
        unsafe { &*self.storage.value() }
    }
}

/// Why a cell was not filled.
pub(crate) enum FillError<E> {
    Initializer(E),
    Refusal(Refusal),
}

/// For callers that can be interrupted.
impl From<FillError<PyErr>> for PyErr {
    fn from(error: FillError<PyErr>) -> Self {
        match error {
            FillError::Initializer(error) => error,
            FillError::Refusal(refusal) => refusal.into(),
        }
    }
}

impl<T> PyOnceLock<Py<T>> {
    /// A cell with a new reference to the same object, or an empty one.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        self.get(py)
            .map_or_else(PyOnceLock::new, |object| object.clone_ref(py).into())
    }
}

impl<T: PyTypeCheck> PyOnceLock<Py<T>> {
    /// The attribute of a module; if the cell is empty, it is imported and the cell filled with it.
    ///
    /// ```
    /// # use pyo3::{prelude::*, types::{PyDict, PyType}};
    /// # use pyo3_sync::PyOnceLock;
    /// fn ordered_dict<'py>(py: Python<'py>, dict: Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    ///     static ORDERED_DICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    ///     ORDERED_DICT.import(py, "collections", "OrderedDict")?.call1((dict,))
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(ordered_dict(py, PyDict::new(py)).is_ok()));
    /// ```
    ///
    /// Nothing is held while the import runs, since the interpreter has locks of its own for that, and importing twice
    /// is harmless: if several threads arrive at once, each imports, and the first one fills the cell. It does so even
    /// when another thread is running an initialiser for the cell; the value of that initialiser is then dropped.
    /// An import that the interpreter refuses with `_DeadlockError` is repeated as by
    /// [`PyImport`](crate::PyImport).
    ///
    /// # Errors
    ///
    /// If the module cannot be imported, has no such attribute, or the attribute is not a `T`.
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
        Ok(self.insert_first(py, object).bind(py))
    }
}

impl<T> Default for PyOnceLock<T> {
    fn default() -> Self {
        PyOnceLock::new()
    }
}

/// A filled cell.
impl<T> From<T> for PyOnceLock<T> {
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

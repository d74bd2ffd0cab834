//! [`PyProtected`]: a cell whose data are borrowed inside a critical section of their own.

mod borrow;

use std::{cell::UnsafeCell, fmt, mem, panic::Location, ptr};

use pyo3::{prelude::*, pyclass::PyVisit};

pub use self::borrow::ProtectedBorrowError;
pub(crate) use self::borrow::{BorrowFlag, BorrowKind, ExclusiveBorrow, SharedBorrow};
use crate::critical_section::{
    lock::SectionLock,
    section::{self, GenerationCheck},
};

/// A cell for data that attached threads share, borrowed inside a critical section.
///
/// One thread at a time uses the data. Borrows are checked at run time, as in a
/// [`RefCell`](std::cell::RefCell). A `PyProtected<T>` replaces a `GILProtected<RefCell<T>>`.
///
/// # Examples
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyProtected;
/// use std::collections::HashMap;
///
/// static COUNTS: PyProtected<Option<HashMap<String, u64>>> = PyProtected::new(None);
///
/// #[pyfunction]
/// fn count(py: Python<'_>, word: String) -> u64 {
///     COUNTS.with_mut(py, |counts| {
///         let count = counts.get_or_insert_default().entry(word).or_default();
///         *count += 1;
///         *count
///     })
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert_eq!((count(py, "a".into()), count(py, "a".into())), (1, 2)));
/// ```
///
/// # Critical sections
///
/// On a GIL build the GIL serves as the critical section, and the cell has no lock. On a
/// free-threaded build each cell has a [critical section](crate::critical_section). A thread that
/// enters it blocks, detached, until the thread inside leaves or is *suspended*. A thread that
/// calls into Python or detaches may be suspended. It resumes the section before the call returns.
/// The GIL behaved in the same way. Cells can be used in any order without deadlocks.
///
/// A borrow outlives a suspension. If another thread attempts a conflicting borrow meanwhile, the
/// attempt panics or returns an error, with a message that names the borrower. It does not block,
/// because the borrower may be waiting for that thread. There are two remedies:
///
/// - Move the data out of the cell before the call, with [`replace`](Self::replace).
/// - Use a [`PyMutex`](crate::PyMutex), which stays locked across calls while other threads block.
///
/// The module [`critical_section`](crate::critical_section#a-section-or-a-mutex) compares the two.
///
/// # Why `with` needs `Sync`
///
/// [`with`](Self::with) lends `&T` to several threads, one of which runs while the others are
/// suspended. `GILProtected` did so for every `T: Send`, which is unsound with or without a GIL.
///
/// Most types that are `Send` and not `Sync` survive, because a suspended `&T` looks like
/// re-entry on the same thread. There are two kinds of types that do not survive:
///
/// - Types that recognize re-entry by the thread. `qcell::TLCell` permits one owner per thread,
///   which turns `&TLCell<T>` into `&mut T`. Two threads, one of them suspended, then had two
///   `&mut T`, and safe code used freed memory. The same holds for the families of `cell_family`
///   with an owner per thread.
/// - Types whose calls must end in reverse order, which calls on two suspended threads may not do.
///   An example is `mlua` before 0.10 with the feature `send`: Lua has one call stack, and calls
///   back into Rust.
///
/// The cells of `std`, arenas such as `bumpalo`, and owner cells such as `QCell` survive. No bound
/// but `Sync` excludes the two kinds above. The bounds are therefore:
///
/// | use | bound |
/// |---|---|
/// | sharing the cell | `T: Send` |
/// | [`with`](Self::with), which lends `&T` to several threads | `T: Sync` |
/// | [`with_mut`](Self::with_mut), which lends `&mut T` to one thread after another | `T: Send` |
///
/// Use `with_mut` for a `T` that is not `Sync`. The borrow flag excludes all other borrows until
/// the closure returns, suspended or not, so `T` needs no `RefCell`.
///
/// # Poisoning
///
/// A panic in a closure ends the borrow and leaves the critical section. The data keep the value
/// they have at that moment. The cell is not poisoned.
///
/// # Fork
///
/// In a forked child, data that another thread had borrowed stay borrowed, and borrowing them
/// returns an error. Data that the forking thread had borrowed stay borrowed until its borrow ends.
/// A section that the forking thread had entered does not exclude threads that enter one later.
///
/// # Differences from `RefCell` and `GILProtected`
///
/// | other type | `PyProtected` |
/// |---|---|
/// | guards | closures, or the guards of [`with_critical_section_mutex`] |
/// | `GILProtected::get` for `T: Send` | [`with`](Self::with) for `T: Sync` |
///
/// A guard would have to be dropped in the section it was created in, hence the closures. Entering
/// a section has no timeout and is not interruptible by signals, because a thread that blocks
/// inside a section is suspended.
///
/// [`with_critical_section_mutex`]: crate::critical_section::with_critical_section_mutex
pub struct PyProtected<T: ?Sized> {
    lock: SectionLock,
    flag: BorrowFlag,
    data: UnsafeCell<T>,
}

// SAFETY:
// - The data move with the cell, and `T: Send`.
// - A cell that moves is not borrowed, and its lock and flag then belong to no thread.
unsafe impl<T: ?Sized + Send> Send for PyProtected<T> {}
// SAFETY:
// - `&mut T` is lent to one thread after another, which amounts to sending: `T: Send`.
// - Methods that lend `&T` require `T: Sync`.
// - One thread at a time uses the flag, in the critical section.
unsafe impl<T: ?Sized + Send> Sync for PyProtected<T> {}

impl<T> PyProtected<T> {
    /// Creates a cell that contains `value`.
    ///
    /// ```
    /// use pyo3_sync::PyProtected;
    ///
    /// static NAMES: PyProtected<Vec<String>> = PyProtected::new(Vec::new());
    /// ```
    pub const fn new(value: T) -> Self {
        PyProtected {
            lock: SectionLock::new(),
            flag: BorrowFlag::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Consumes the cell, returning its value.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    /// Replaces the value, returning the old one.
    ///
    /// Prefer this to an assignment inside [`with_mut`](Self::with_mut) for values that refer to
    /// Python objects. An assignment drops the old value while the data are borrowed, which may run
    /// a `__del__` that borrows them again.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static LISTENERS: PyProtected<Vec<Py<PyAny>>> = PyProtected::new(Vec::new());
    ///
    /// fn notify(py: Python<'_>) -> PyResult<()> {
    ///     // A listener, or another thread meanwhile, may add listeners.
    ///     for listener in LISTENERS.replace(py, Vec::new()) {
    ///         listener.call0(py)?;
    ///     }
    ///     Ok(())
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| notify(py)).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the data are borrowed, as [`with_mut`](Self::with_mut) does.
    #[inline]
    #[track_caller]
    pub fn replace(&self, py: Python<'_>, value: T) -> T
    where
        T: Send,
    {
        self.with_mut(py, |data| mem::replace(data, value))
    }

    /// Replaces the value with `T::default()`, returning the old one.
    ///
    /// # Panics
    ///
    /// Panics if the data are borrowed, as [`with_mut`](Self::with_mut) does.
    #[inline]
    #[track_caller]
    pub fn take(&self, py: Python<'_>) -> T
    where
        T: Send + Default,
    {
        self.replace(py, T::default())
    }
}

impl<T: ?Sized> PyProtected<T> {
    /// Calls `f` with a shared reference to the data, inside the critical section.
    ///
    /// While `f` is suspended, other threads may borrow the data too. Hence the bound
    /// [`T: Sync`](Self#why-with-needs-sync).
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static NAMES: PyProtected<Vec<String>> = PyProtected::new(Vec::new());
    ///
    /// #[pyfunction]
    /// fn is_known(py: Python<'_>, name: &str) -> bool {
    ///     NAMES.with(py, |names| names.iter().any(|known| known == name))
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics, without calling `f`, if the data are mutably borrowed: by this thread, further up
    /// its stack, or by a suspended thread. The message is that of a [`ProtectedBorrowError`].
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&T) -> R) -> R
    where
        T: Sync,
    {
        match self.try_with(py, f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Calls `f` with a mutable reference to the data, inside the critical section.
    ///
    /// The data stay borrowed while `f` is suspended.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static NAMES: PyProtected<Vec<String>> = PyProtected::new(Vec::new());
    ///
    /// #[pyfunction]
    /// fn remember(py: Python<'_>, name: String) {
    ///     NAMES.with_mut(py, |names| names.push(name));
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics, without calling `f`, if the data are borrowed, as [`with`](Self::with) does.
    #[inline]
    #[track_caller]
    pub fn with_mut<R>(&self, py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R
    where
        T: Send,
    {
        match self.try_with_mut(py, f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Calls `f` as [`with`](Self::with) does, returning an error if the data are mutably borrowed.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`], without calling `f`, if the data are mutably borrowed.
    #[inline]
    #[track_caller]
    pub fn try_with<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&T) -> R,
    ) -> Result<R, ProtectedBorrowError>
    where
        T: Sync,
    {
        let caller = Location::caller();
        section::on_lock(py, &self.lock, || {
            // SAFETY:
            // - This thread is in the section of this cell.
            // - `GenerationCheck` ends the borrow in a section of this cell.
            // - The data are borrowed for as long as the reference lives.
            unsafe {
                let Some(borrow) = self.flag.try_borrow(caller) else {
                    return Err(self.error(py, BorrowKind::Shared, caller));
                };
                let _borrow = GenerationCheck::new(borrow, py, &self.lock);
                Ok(f(&*self.data.get()))
            }
        })
    }

    /// Calls `f` as [`with_mut`](Self::with_mut) does, returning an error if the data are borrowed.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static LOG: PyProtected<Vec<String>> = PyProtected::new(Vec::new());
    ///
    /// /// May be called from Python code that runs during a borrow.
    /// #[pyfunction]
    /// fn log(py: Python<'_>, line: String) -> PyResult<()> {
    ///     Ok(LOG.try_with_mut(py, |lines| lines.push(line))?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`], without calling `f`, if the data are borrowed.
    #[inline]
    #[track_caller]
    pub fn try_with_mut<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut T) -> R,
    ) -> Result<R, ProtectedBorrowError>
    where
        T: Send,
    {
        let caller = Location::caller();
        section::on_lock(py, &self.lock, || {
            // SAFETY: as in `try_with`, and the borrow is exclusive.
            unsafe {
                let Some(borrow) = self.flag.try_borrow_mut(caller) else {
                    return Err(self.error(py, BorrowKind::Mutable, caller));
                };
                let _borrow = GenerationCheck::new(borrow, py, &self.lock);
                Ok(f(&mut *self.data.get()))
            }
        })
    }

    /// Calls `f` with shared references to the data of two cells.
    ///
    /// `f` runs inside the critical sections of both cells, which are entered together. Threads
    /// that pass the cells in opposite order do not deadlock. The two cells may be the same.
    ///
    /// # Panics
    ///
    /// Panics, without calling `f`, if the data of either cell are mutably borrowed.
    #[inline]
    #[track_caller]
    pub fn with2<U: ?Sized + Sync, R>(
        &self,
        py: Python<'_>,
        other: &PyProtected<U>,
        f: impl FnOnce(&T, &U) -> R,
    ) -> R
    where
        T: Sync,
    {
        match self.try_with2(py, other, f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Calls `f` as [`with2`](Self::with2) does, returning an error if a cell is mutably borrowed.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`], without calling `f`, if the data of either cell are
    /// mutably borrowed.
    #[inline]
    #[track_caller]
    pub fn try_with2<U: ?Sized + Sync, R>(
        &self,
        py: Python<'_>,
        other: &PyProtected<U>,
        f: impl FnOnce(&T, &U) -> R,
    ) -> Result<R, ProtectedBorrowError>
    where
        T: Sync,
    {
        let caller = Location::caller();
        self.in_both_sections(py, other, || {
            // SAFETY: as in `try_with`, for both cells.
            unsafe {
                let Some(mine) = self.flag.try_borrow(caller) else {
                    return Err(self.error(py, BorrowKind::Shared, caller));
                };
                let _mine = GenerationCheck::new(mine, py, &self.lock);
                let Some(borrow) = other.flag.try_borrow(caller) else {
                    return Err(other.error(py, BorrowKind::Shared, caller));
                };
                let _other = GenerationCheck::new(borrow, py, &other.lock);
                Ok(f(&*self.data.get(), &*other.data.get()))
            }
        })
    }

    /// Calls `f` with mutable references to the data of two cells.
    ///
    /// `f` runs inside the critical sections of both cells, as in [`with2`](Self::with2).
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// /// Moves all items. Another thread may move those of `to` to `from` at the same time.
    /// fn drain(py: Python<'_>, from: &PyProtected<Vec<u64>>, to: &PyProtected<Vec<u64>>) {
    ///     from.with2_mut(py, to, |from, to| to.append(from));
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| drain(py, &PyProtected::new(vec![1]), &PyProtected::default()));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics, without calling `f`, if the data of either cell are borrowed, or if both are the
    /// same cell.
    #[inline]
    #[track_caller]
    pub fn with2_mut<U: ?Sized + Send, R>(
        &self,
        py: Python<'_>,
        other: &PyProtected<U>,
        f: impl FnOnce(&mut T, &mut U) -> R,
    ) -> R
    where
        T: Send,
    {
        match self.try_with2_mut(py, other, f) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// Calls `f` as [`with2_mut`](Self::with2_mut) does, returning an error if a cell is borrowed.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`], without calling `f`, if the data of either cell are
    /// borrowed, or if both are the same cell.
    #[inline]
    #[track_caller]
    pub fn try_with2_mut<U: ?Sized + Send, R>(
        &self,
        py: Python<'_>,
        other: &PyProtected<U>,
        f: impl FnOnce(&mut T, &mut U) -> R,
    ) -> Result<R, ProtectedBorrowError>
    where
        T: Send,
    {
        let caller = Location::caller();
        self.in_both_sections(py, other, || {
            // SAFETY: as in `try_with_mut`, for both cells. If they are the same cell, the second
            // borrow fails.
            unsafe {
                let Some(mine) = self.flag.try_borrow_mut(caller) else {
                    return Err(self.error(py, BorrowKind::Mutable, caller));
                };
                let _mine = GenerationCheck::new(mine, py, &self.lock);
                let Some(borrow) = other.flag.try_borrow_mut(caller) else {
                    return Err(other.error(py, BorrowKind::Mutable, caller));
                };
                let _other = GenerationCheck::new(borrow, py, &other.lock);
                Ok(f(&mut *self.data.get(), &mut *other.data.get()))
            }
        })
    }

    #[inline(always)]
    fn in_both_sections<U: ?Sized, R>(
        &self,
        py: Python<'_>,
        other: &PyProtected<U>,
        f: impl FnOnce() -> R,
    ) -> R {
        if self.is_same(other) {
            section::on_lock(py, &self.lock, f)
        } else {
            section::on_locks(py, &self.lock, &other.lock, f)
        }
    }

    /// Returns `true` if the two are the same cell.
    ///
    /// Compares the addresses of the flags, which are not zero-sized on any build. The addresses of
    /// the cells may be equal if one cell is at the beginning of the data of the other.
    #[inline(always)]
    pub(crate) fn is_same<U: ?Sized>(&self, other: &PyProtected<U>) -> bool {
        ptr::eq(&self.flag, &other.flag)
    }

    pub(crate) fn lock(&self) -> &SectionLock {
        &self.lock
    }

    pub(crate) fn flag(&self) -> &BorrowFlag {
        &self.flag
    }

    /// Returns a pointer to the data, for reads during a shared borrow and for writes during an
    /// exclusive one.
    pub(crate) fn data(&self) -> *mut T {
        self.data.get()
    }

    /// Creates the error of a failed borrow.
    ///
    /// # Safety
    ///
    /// The calling thread is in the section of this cell.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn error(
        &self,
        py: Python<'_>,
        wanted: BorrowKind,
        caller: &'static Location<'static>,
    ) -> ProtectedBorrowError {
        let address = ptr::from_ref(self).addr();
        // SAFETY: guaranteed by the caller.
        let holders = unsafe { self.flag.snapshot() };
        ProtectedBorrowError::new::<T>(py, address, holders, wanted, caller)
    }

    /// Returns a mutable reference to the data.
    ///
    /// Enters no critical section, because `&mut self` is exclusive.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while the data are mutably borrowed. The collector then treats the objects in
    /// the data as reachable, and visits them in a later collection. The reference ends with the
    /// visit.
    ///
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the data and visit them.
    ///
    /// ```
    /// use pyo3::{PyTraverseError, PyVisit, prelude::*};
    /// use pyo3_sync::PyProtected;
    ///
    /// #[pyclass(frozen)]
    /// struct Listeners(PyProtected<Vec<Py<PyAny>>>);
    ///
    /// #[pymethods]
    /// impl Listeners {
    ///     fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
    ///         for listener in self.0.traverse(&visit).into_iter().flatten() {
    ///             visit.call(listener)?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn __clear__(&self, py: Python<'_>) {
    ///         // Drops the objects after the borrow: their finalizers may borrow the data.
    ///         drop(self.0.take(py));
    ///     }
    /// }
    /// ```
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        // SAFETY: a `PyVisit` exists only during a traversal (I6), and the flag is not being
        // changed:
        // - On a GIL build this thread holds the GIL and runs only the traversal.
        // - On a free-threaded build the world is stopped.
        let is_borrowed = unsafe { self.flag.is_mutably_borrowed() };
        // SAFETY:
        // - There is no `&mut T`, and no borrow begins before the end of the traversal, to which
        //   the result is tied.
        // - A `&T` elsewhere requires `T: Sync`, or is an `unsafe` view whose contract excludes
        //   this call.
        (!is_borrowed).then(|| unsafe { &*self.data.get() })
    }
}

impl<T: Default> Default for PyProtected<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for PyProtected<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Omits the data, which only an attached thread may access.
impl<T: ?Sized> fmt::Debug for PyProtected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyProtected").finish_non_exhaustive()
    }
}

//! [`PyProtected`]: data that are reached only inside a critical section of their own.

mod borrow;

use std::{cell::UnsafeCell, fmt, mem, panic::Location, ptr};

use pyo3::{prelude::*, pyclass::PyVisit};

pub use self::borrow::ProtectedBorrowError;
pub(crate) use self::borrow::{BorrowFlag, Exclusive, Shared, Wanted};
use crate::{
    build_config::SectionLock,
    critical_section::section::{self, GenerationCheck},
};

/// A cell that attached threads share: its data are reached one thread at a time, inside a critical section, and
/// borrowed as those of a [`RefCell`](std::cell::RefCell). What replaces `GILProtected<RefCell<T>>`.
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
/// # What it promises
///
/// Where there is a GIL, that is the critical section, and nothing is locked. On free-threaded Python the cell has a
/// [critical section](crate::critical_section) of its own. A thread that wants to enter waits, detached, until the one inside leaves
/// or is *suspended*: a thread that calls into Python or detaches may lose the section, and takes it again before
/// it comes back. That is what the GIL did too, and why no order of cells leads to a deadlock.
///
/// Data that are borrowed across a suspension are not lost with the section: the borrow stays, and a thread that wants
/// what it excludes gets an error, or panics, with a message that names the thread inside. It does not wait: the
/// thread inside may be waiting for it. Where that happens in your code, move what the call needs out of the cell
/// first ([`replace`](Self::replace)); or use a [`PyMutex`](crate::PyMutex), which stays locked across calls, and for which
/// others wait. Which of the two is right for what is told in [`critical_section`](crate::critical_section).
///
/// # Why `with` needs `Sync`
///
/// `GILProtected` lent `&T` for every `T: Send`, and that is unsound where sections are suspended, with or without a GIL. A thread
/// that detaches in the middle keeps its `&T` and lets the next thread in, which gets another. To most types that are `Send` and
/// not `Sync` this looks like re-entry, which they survive: a [`Cell`](std::cell::Cell) is used in one piece, a
/// [`RefCell`](std::cell::RefCell) counts. But a type may tell re-entry from first entry by *the thread*, and be `Send` because
/// `&T` in one thread at a time is all it asks for. `qcell::TLCell` does so: in every thread there can be one owner that makes
/// `&mut T` of `&TLCell<T>`, so two threads, one of them suspended, had two `&mut` to one value, and used freed memory, by safe
/// code alone. The language has one name for types whose `&T` may be in two threads at once, and it is `Sync`.
///
/// It is not the only such type. The families of the crate `cell_family` have an owner for each thread too, unless they are declared to
/// be for all. And there is a second kind, for which calls must end in the reverse of the order they began in, as they do in one
/// thread, and need not in two that are suspended: a wrapper of an interpreter or a library in C that has one stack of calls and calls
/// back into Rust, such as the states of Lua in `mlua` before 0.10 with its feature `send`. Looked at and found to survive: the cells of
/// `std`, which are used in one piece or count; `mpsc::Receiver`, `bumpalo`, `typed_arena` and `elsa`, which lend nothing that a second
/// caller could take back; `QCell`, `TCell` and `ghost_cell`, whose owner is one for the process; `fragile` and `send_wrapper`, which ask
/// for the thread each time; connections of `rusqlite` and `git2`, which tell re-entry by a state of their own.
///
/// - [`with`](Self::with) lends `&T` to several threads: `T: Sync`.
/// - [`with_mut`](Self::with_mut) lends `&mut T` to one thread, then to another: `T: Send`, as for a mutex. The flag of the cell
///   keeps all others out until it ends, suspended or not.
/// - The cell itself is shared with other threads if `T: Send`.
///
/// A `T` that is not `Sync` is used through `with_mut`. It needs no `RefCell` inside: the cell has a flag of its own.
///
/// # Panics and early returns
///
/// A panic inside a closure ends the borrow and the section. The data stay as they are, and the cell remembers nothing of
/// it: there is no poison.
///
/// # Fork
///
/// In a forked child, data that another thread had borrowed stay borrowed, and borrowing them is an
/// error. A section that the forking thread had entered does not exclude threads that enter one
/// later. Data that it had borrowed stay borrowed by it until the borrow ends.
///
/// # Not here
///
/// No guards: one that is kept while another section is entered would end outside of its own. Where a closure
/// does not fit, [`with_critical_section_mutex`](crate::critical_section::with_critical_section_mutex) has guards that pay for
/// entering the section again. No time limits and no interruptible form: nobody holds a section while doing something that takes
/// long, unless it is computing, and then the wait ends.
pub struct PyProtected<T: ?Sized> {
    lock: SectionLock,
    flag: BorrowFlag,
    data: UnsafeCell<T>,
}

// SAFETY: a cell that is sent takes its data along, which is safe if the data may be sent; the lock and the flag belong to no thread
// while nobody borrows, and a cell that is sent is not borrowed.
unsafe impl<T: ?Sized + Send> Send for PyProtected<T> {}
// SAFETY: a shared cell lends its data as `&mut T` to one thread after the other, which is like sending it to and fro (`T: Send`),
// and as `&T` only where `T: Sync`: those methods ask for it. The flag is used in the critical section, by one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for PyProtected<T> {}

impl<T> PyProtected<T> {
    /// A cell with `value` in it.
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

    /// Takes the cell apart. No section is needed, since nobody else can have it.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    /// Puts a new value in the place of the old one, and gives that back.
    ///
    /// For values that refer to Python objects it is better than assigning inside [`with_mut`](Self::with_mut): dropping the
    /// old value may run a `__del__`, that is, any code, which would find the data borrowed.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static LISTENERS: PyProtected<Vec<Py<PyAny>>> = PyProtected::new(Vec::new());
    ///
    /// fn notify(py: Python<'_>) -> PyResult<()> {
    ///     // A listener may add listeners, and other threads may come while it runs.
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
    /// As [`with_mut`](Self::with_mut).
    #[inline]
    #[track_caller]
    pub fn replace(&self, py: Python<'_>, value: T) -> T
    where
        T: Send,
    {
        self.with_mut(py, |data| mem::replace(data, value))
    }

    /// Takes the value out and leaves the default one: [`replace`](Self::replace) by `T::default()`.
    ///
    /// # Panics
    ///
    /// As [`with_mut`](Self::with_mut).
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
    /// Runs `f` with the data, inside the critical section. Other threads may come in for as long as `f` is suspended, and `with`
    /// the same data: hence `T: Sync`, [see above](Self#why-with-needs-sync).
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
    /// If the data are mutably borrowed, with the message of a [`ProtectedBorrowError`]: by this thread, further up its stack, or by
    /// a thread that is suspended. `f` has not run then, and nothing has changed.
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

    /// Runs `f` with the data, mutably borrowed, inside the critical section. They stay borrowed while `f` is suspended.
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
    /// If the data are borrowed in any way, with the message of a [`ProtectedBorrowError`]: by this thread, further up its stack, or
    /// by a thread that is suspended. `f` has not run then, and nothing has changed.
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

    /// [`with`](Self::with), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`ProtectedBorrowError`] if the data are mutably borrowed. `f` has not run then.
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
        let asked_at = Location::caller();
        section::on_lock(py, &self.lock, || {
            // SAFETY: in the section of this cell, now and when the borrow ends, which `GenerationCheck` sees to. The data are
            // borrowed for as long as the reference lives.
            unsafe {
                let Some(borrow) = self.flag.share(asked_at) else {
                    return Err(self.error(py, Wanted::Shared, asked_at));
                };
                let _borrow = GenerationCheck::new(borrow, py, &self.lock);
                Ok(f(&*self.data.get()))
            }
        })
    }

    /// [`with_mut`](Self::with_mut), with an error where that panics.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// static LOG: PyProtected<Vec<String>> = PyProtected::new(Vec::new());
    ///
    /// /// Python code comes back to this from anywhere, so it must reckon with finding the data borrowed.
    /// #[pyfunction]
    /// fn log(py: Python<'_>, line: String) -> PyResult<()> {
    ///     Ok(LOG.try_with_mut(py, |lines| lines.push(line))?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A [`ProtectedBorrowError`] if the data are borrowed in any way. `f` has not run then.
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
        let asked_at = Location::caller();
        section::on_lock(py, &self.lock, || {
            // SAFETY: in the section of this cell, now and when the borrow ends, which `GenerationCheck` sees to. The data are
            // borrowed exclusively for as long as the reference lives.
            unsafe {
                let Some(borrow) = self.flag.borrow_exclusively(asked_at) else {
                    return Err(self.error(py, Wanted::Exclusive, asked_at));
                };
                let _borrow = GenerationCheck::new(borrow, py, &self.lock);
                Ok(f(&mut *self.data.get()))
            }
        })
    }

    /// Runs `f` with the data of two cells, inside the critical sections of both. They are entered together, so there is no order
    /// to get wrong: threads that name the cells in opposite order wait for each other, and go on.
    ///
    /// The two may be one and the same.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), if the data of either are mutably borrowed.
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

    /// [`with2`](Self::with2), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`ProtectedBorrowError`] if the data of either cell are mutably borrowed. `f` has not run then.
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
        let asked_at = Location::caller();
        self.in_both_sections(py, other, || {
            // SAFETY: in the sections of both cells, now and when the borrows end, which `GenerationCheck` sees to. The data
            // are borrowed for as long as the references live.
            unsafe {
                let Some(mine) = self.flag.share(asked_at) else {
                    return Err(self.error(py, Wanted::Shared, asked_at));
                };
                let _mine = GenerationCheck::new(mine, py, &self.lock);
                let Some(borrow) = other.flag.share(asked_at) else {
                    return Err(other.error(py, Wanted::Shared, asked_at));
                };
                let _other = GenerationCheck::new(borrow, py, &other.lock);
                Ok(f(&*self.data.get(), &*other.data.get()))
            }
        })
    }

    /// Runs `f` with the data of two cells, mutably borrowed, inside the critical sections of both, as [`with2`](Self::with2).
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyProtected;
    /// /// Moves everything. Another thread may do the same from `to` to `from`, at the same time.
    /// fn drain(py: Python<'_>, from: &PyProtected<Vec<u64>>, to: &PyProtected<Vec<u64>>) {
    ///     from.with2_mut(py, to, |from, to| to.append(from));
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| drain(py, &PyProtected::new(vec![1]), &PyProtected::default()));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`with_mut`](Self::with_mut), if the data of either are borrowed in any way; and if the two are one cell, whose data
    /// cannot be mutably borrowed twice.
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

    /// [`with2_mut`](Self::with2_mut), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`ProtectedBorrowError`] if the data of either cell are borrowed in any way, or the two are one cell. `f` has not run then.
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
        let asked_at = Location::caller();
        self.in_both_sections(py, other, || {
            // SAFETY: in the sections of both cells, now and when the borrows end, which `GenerationCheck` sees to. The data
            // are borrowed exclusively for as long as the references live; if the cells are one, the second borrow fails.
            unsafe {
                let Some(mine) = self.flag.borrow_exclusively(asked_at) else {
                    return Err(self.error(py, Wanted::Exclusive, asked_at));
                };
                let _mine = GenerationCheck::new(mine, py, &self.lock);
                let Some(borrow) = other.flag.borrow_exclusively(asked_at) else {
                    return Err(other.error(py, Wanted::Exclusive, asked_at));
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

    /// Whether the two are one cell. Their flags are compared, which have a size on every build: the address of the cells would
    /// not do, since one cell may lie at the beginning of another one's data.
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

    /// Valid for reads during a shared borrow and for writes during an exclusive one.
    pub(crate) fn data(&self) -> *mut T {
        self.data.get()
    }

    /// # Safety
    ///
    /// The calling thread is in the section of this cell.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn error(
        &self,
        py: Python<'_>,
        wanted: Wanted,
        asked_at: &'static Location<'static>,
    ) -> ProtectedBorrowError {
        let address = ptr::from_ref(self).addr();
        // SAFETY: says the caller.
        let holders = unsafe { self.flag.holders() };
        ProtectedBorrowError::new::<T>(py, address, holders, wanted, asked_at)
    }

    /// The data, without a section: the exclusive borrow proves that nobody else has them.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while they are mutably borrowed. The collector then takes the objects in the
    /// data for reachable, and visits them again in a later collection. The reference ends with the
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
    ///         // The objects are dropped after the borrow: their finalizers may borrow the data.
    ///         drop(self.0.take(py));
    ///     }
    /// }
    /// ```
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        // SAFETY: a `PyVisit` exists only for the length of a traversal, during which no thread is amid a change of the flag:
        // with a GIL this thread has it and runs nothing but the traversal; without, the world is stopped, all other threads
        // are detached or at a safe point of the interpreter, and this one traverses.
        let is_borrowed = unsafe { self.flag.is_borrowed_exclusively() };
        // SAFETY: for the same reason nobody begins to borrow before the traversal is over, to which the result is tied. So
        // there is no `&mut T`; and a `&T` elsewhere is one of a `T: Sync`, or of an `unsafe` view whose contract excludes this.
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

/// Shows no data: they can be looked at only by a thread that is attached.
impl<T: ?Sized> fmt::Debug for PyProtected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyProtected").finish_non_exhaustive()
    }
}

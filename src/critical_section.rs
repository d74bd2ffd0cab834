#![doc = include_str!("../docs/critical_sections.md")]

mod fork;
pub(crate) mod lock;
pub(crate) mod section;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    panic::Location,
};

use pyo3::prelude::*;

use crate::protected::{
    BorrowKind, ExclusiveBorrow, ProtectedBorrowError, PyProtected, SharedBorrow,
};

/// Calls `f` inside the critical section of an object.
///
/// CPython enters the same section for most operations on a list or a dictionary. On a GIL build
/// this function only calls `f`.
///
/// ```
/// use pyo3::{prelude::*, types::PyList};
/// use pyo3_sync::critical_section::with_critical_section;
///
/// /// No other thread appends to the list between the two steps.
/// #[pyfunction]
/// fn push_length(list: &Bound<'_, PyList>) -> PyResult<()> {
///     with_critical_section(list, || list.append(list.len()))
/// }
/// # Python::initialize();
/// # Python::attach(|py| push_length(&PyList::empty(py))).unwrap();
/// ```
///
/// The section excludes only other sections of the same object. Most functions of the C API for
/// built-in types enter one, but not all: reading an item of a list does not. The section is
/// [suspended](self#suspension) when the thread detaches.
#[inline]
pub fn with_critical_section<R>(object: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> R {
    section::on_object(object, f)
}

/// Calls `f` inside the critical sections of two objects, which are entered together.
///
/// Threads that pass the objects in opposite order do not deadlock. The two may be the same object.
///
/// Two nested calls of [`with_critical_section`] are not equivalent: the outer section is suspended
/// while the thread waits for the inner one.
///
/// ```
/// use pyo3::{prelude::*, types::PyList};
/// use pyo3_sync::critical_section::with_critical_section2;
///
/// #[pyfunction]
/// fn swap_last(a: &Bound<'_, PyList>, b: &Bound<'_, PyList>) -> PyResult<()> {
///     with_critical_section2(a, b, || {
///         let (last_of_a, last_of_b) = (a.get_item(a.len() - 1)?, b.get_item(b.len() - 1)?);
///         a.set_item(a.len() - 1, last_of_b)?;
///         b.set_item(b.len() - 1, last_of_a)
///     })
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     let (a, b) = (PyList::new(py, [1]).unwrap(), PyList::new(py, [2]).unwrap());
/// #     swap_last(&a, &b).unwrap();
/// # });
/// ```
#[inline]
pub fn with_critical_section2<R>(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    f: impl FnOnce() -> R,
) -> R {
    section::on_objects(a, b, f)
}

/// Calls `f` inside the critical section of a [`PyProtected`], without borrowing its data.
///
/// `f` borrows the data with the methods of [`EnteredCriticalSection`].
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};
///
/// static QUEUE: PyProtected<Vec<Py<PyAny>>> = PyProtected::new(Vec::new());
///
/// /// A call may add further calls, because the data are not borrowed meanwhile.
/// #[pyfunction]
/// fn run_all(py: Python<'_>) -> PyResult<()> {
///     with_critical_section_mutex(py, &QUEUE, |queue| {
///         loop {
///             let Some(next) = queue.try_borrow_mut()?.pop() else { return Ok(()) };
///             next.call0(py)?; // Suspends the section, perhaps.
///         }
///     })
/// }
/// # Python::initialize();
/// # Python::attach(run_all).unwrap();
/// ```
#[inline]
pub fn with_critical_section_mutex<'py, T: ?Sized, R>(
    py: Python<'py>,
    cell: &PyProtected<T>,
    f: impl for<'s> FnOnce(EnteredCriticalSection<'s, T>) -> R,
) -> R {
    section::on_lock(py, cell.lock(), || f(EnteredCriticalSection { cell, py }))
}

/// Calls `f` inside the critical sections of two cells, which are entered together.
///
/// The second argument is `None` if the two are the same cell, so that `f` never has two views of
/// one value.
#[inline]
pub fn with_critical_section_mutex2<T: ?Sized, U: ?Sized, R>(
    py: Python<'_>,
    a: &PyProtected<T>,
    b: &PyProtected<U>,
    f: impl for<'s> FnOnce(EnteredCriticalSection<'s, T>, Option<EnteredCriticalSection<'s, U>>) -> R,
) -> R {
    if a.is_same(b) {
        return with_critical_section_mutex(py, a, |entered| f(entered, None));
    }
    section::on_locks(py, a.lock(), b.lock(), || {
        f(
            EnteredCriticalSection { cell: a, py },
            Some(EnteredCriticalSection { cell: b, py }),
        )
    })
}

/// A [`PyProtected`] whose critical section this thread has entered.
///
/// Passed to the closure of [`with_critical_section_mutex`]. A nested section may suspend this one,
/// so each borrow enters the section again, at its beginning and at its end. That is fast while
/// the section is active.
pub struct EnteredCriticalSection<'s, T: ?Sized> {
    cell: &'s PyProtected<T>,
    /// Makes this type `!Send`, which excludes it from closures that run detached.
    py: Python<'s>,
}

impl<T: ?Sized> EnteredCriticalSection<'_, T> {
    /// Borrows the data. The borrow lasts until the returned guard is dropped.
    ///
    /// # Panics
    ///
    /// Panics if the data are mutably borrowed, with the message of a [`ProtectedBorrowError`].
    #[inline]
    #[track_caller]
    pub fn borrow(&self) -> ProtectedRef<'_, T>
    where
        T: Sync,
    {
        match self.try_borrow() {
            Ok(guard) => guard,
            Err(error) => error.panic(),
        }
    }

    /// Borrows the data, returning an error if they are mutably borrowed.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`] if the data are mutably borrowed.
    #[inline]
    #[track_caller]
    pub fn try_borrow(&self) -> Result<ProtectedRef<'_, T>, ProtectedBorrowError>
    where
        T: Sync,
    {
        let (cell, py, caller) = (self.cell, self.py, Location::caller());
        section::on_lock(py, cell.lock(), || {
            // SAFETY:
            // - This thread is in the section of this cell.
            // - `ProtectedRef` enters it again to end the borrow.
            match unsafe { cell.flag().try_borrow(caller) } {
                Some(borrow) => Ok(ProtectedRef {
                    borrow: Some(borrow),
                    cell,
                    py,
                }),
                // SAFETY: this thread is in the section of this cell.
                None => Err(unsafe { cell.error(py, BorrowKind::Shared, caller) }),
            }
        })
    }

    /// Borrows the data mutably. The borrow lasts until the returned guard is dropped.
    ///
    /// # Panics
    ///
    /// Panics if the data are borrowed, with the message of a [`ProtectedBorrowError`].
    #[inline]
    #[track_caller]
    pub fn borrow_mut(&self) -> ProtectedRefMut<'_, T>
    where
        T: Send,
    {
        match self.try_borrow_mut() {
            Ok(guard) => guard,
            Err(error) => error.panic(),
        }
    }

    /// Borrows the data mutably, returning an error if they are borrowed.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtectedBorrowError`] if the data are borrowed, mutably or not.
    #[inline]
    #[track_caller]
    pub fn try_borrow_mut(&self) -> Result<ProtectedRefMut<'_, T>, ProtectedBorrowError>
    where
        T: Send,
    {
        let (cell, py, caller) = (self.cell, self.py, Location::caller());
        section::on_lock(py, cell.lock(), || {
            // SAFETY:
            // - This thread is in the section of this cell.
            // - `ProtectedRefMut` enters it again to end the borrow.
            match unsafe { cell.flag().try_borrow_mut(caller) } {
                Some(borrow) => Ok(ProtectedRefMut {
                    borrow: Some(borrow),
                    cell,
                    py,
                }),
                // SAFETY: this thread is in the section of this cell.
                None => Err(unsafe { cell.error(py, BorrowKind::Mutable, caller) }),
            }
        })
    }

    /// Returns a reference to the data, without borrowing them and without a check.
    ///
    /// # Safety
    ///
    /// From this call on, for as long as the reference lives:
    ///
    /// - The section is active. This thread does not detach, does not enter another section, and
    ///   calls no function of Python that may do either. Dropping a reference or allocating a
    ///   Python object may, because the collector may run. No section that began within this one is
    ///   active.
    /// - The process has not forked since the section began. In a forked child, the section does
    ///   not exclude threads that enter a section of the same cell later.
    /// - The data are not mutably borrowed, neither by this thread nor by a suspended one.
    /// - No reference from [`get_mut`](Self::get_mut) exists.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};
    /// static TOTAL: PyProtected<u64> = PyProtected::new(0);
    ///
    /// #[pyfunction]
    /// fn total(py: Python<'_>) -> u64 {
    ///     with_critical_section_mutex(py, &TOTAL, |total| {
    ///         // SAFETY:
    ///         // - Nothing is called between the beginning of the section and the copy.
    ///         // - No code in this module borrows TOTAL, which is private.
    ///         unsafe { *total.get() }
    ///     })
    /// }
    /// ```
    #[inline(always)]
    pub unsafe fn get(&self) -> &T {
        // SAFETY: guaranteed by the caller:
        // - The section excludes every other thread that enters a section of this cell.
        // - No `&mut T` from a borrow exists.
        unsafe { &*self.cell.data() }
    }

    /// Returns a mutable reference to the data, without borrowing them and without a check.
    ///
    /// # Safety
    ///
    /// As for [`get`](Self::get). In addition, the data are not borrowed at all, neither by this
    /// thread nor by a suspended one, and no other reference from `get` or `get_mut` exists.
    #[inline(always)]
    pub unsafe fn get_mut(&mut self) -> &mut T {
        // SAFETY: as in `get`. The caller guarantees that no `&T` exists either.
        unsafe { &mut *self.cell.data() }
    }
}

impl<T: ?Sized> fmt::Debug for EnteredCriticalSection<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnteredCriticalSection")
            .finish_non_exhaustive()
    }
}

/// A shared borrow of the data of a [`PyProtected`].
///
/// Created by [`EnteredCriticalSection::borrow`]. If the guard is leaked ([`std::mem::forget`]),
/// the data stay borrowed forever, as with [`RefCell`](std::cell::RefCell).
#[must_use = "if unused the borrow ends at once"]
pub struct ProtectedRef<'b, T: ?Sized> {
    /// `None` only during the drop.
    borrow: Option<SharedBorrow<'b>>,
    cell: &'b PyProtected<T>,
    py: Python<'b>,
}

impl<T: ?Sized> Deref for ProtectedRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the data are borrowed until `self` is dropped.
        unsafe { &*self.cell.data() }
    }
}

impl<T: ?Sized> Drop for ProtectedRef<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Only a thread in the section may change the flag, and a nested section may have suspended
        // it.
        section::on_lock(self.py, self.cell.lock(), || drop(self.borrow.take()));
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ProtectedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An exclusive borrow of the data of a [`PyProtected`].
///
/// Created by [`EnteredCriticalSection::borrow_mut`]. If the guard is leaked
/// ([`std::mem::forget`]), the data stay borrowed forever, as with
/// [`RefCell`](std::cell::RefCell).
#[must_use = "if unused the borrow ends at once"]
pub struct ProtectedRefMut<'b, T: ?Sized> {
    /// `None` only during the drop.
    borrow: Option<ExclusiveBorrow<'b>>,
    cell: &'b PyProtected<T>,
    py: Python<'b>,
}

impl<T: ?Sized> Deref for ProtectedRefMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the data are exclusively borrowed until `self` is dropped.
        unsafe { &*self.cell.data() }
    }
}

impl<T: ?Sized> DerefMut for ProtectedRefMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the data are exclusively borrowed until `self` is dropped.
        unsafe { &mut *self.cell.data() }
    }
}

impl<T: ?Sized> Drop for ProtectedRefMut<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Enters the section for the reason given at `ProtectedRef`.
        section::on_lock(self.py, self.cell.lock(), || drop(self.borrow.take()));
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ProtectedRefMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

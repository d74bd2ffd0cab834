//! The borrow flag of a [`PyProtected`](super::PyProtected), and the error of a failed borrow.

use std::{any::type_name, cell::Cell, error, fmt, panic::Location};

use pyo3::{PyErr, exceptions::PyRuntimeError, prelude::*};

use crate::{
    error::panic_with,
    python::exception_aside,
    thread_label::ThreadLabel,
    wait::{ThreadRef, ident},
};

/// Counts the borrows of the data, as the flag of a `RefCell` does.
///
/// Not atomic: each user is in the critical section of the cell, or has stopped the world.
///
/// | `count` | meaning | transitions |
/// |---|---|---|
/// | 0 | not borrowed | to 1 by a shared borrow, to [`EXCLUSIVE`] by an exclusive one |
/// | n > 0 | n shared borrows | to n + 1 by a shared borrow, to n - 1 at its end |
/// | [`EXCLUSIVE`] | an exclusive borrow | to 0 at its end |
///
/// A borrow begins and ends in the critical section, on the same thread, even if the section was
/// suspended in between. A transition does not call into Python, so the collector never reads the
/// flag during one.
pub(crate) struct BorrowFlag {
    // Narrower than `mark_sum`, so that the compiler does not merge the loads of both into one
    // vector load. After two separate stores, such a load stalls on store forwarding.
    count: Cell<i32>,
    /// Sum of the [marks](current_thread_mark) of the borrowing threads.
    ///
    /// For one borrow the sum identifies the thread. For several it shows whether this thread made
    /// all of them.
    mark_sum: Cell<u64>,
    /// Location of the last borrow, for messages. Enlarges the flag, so only in debug builds.
    #[cfg(debug_assertions)]
    borrowed_at: Cell<Option<&'static Location<'static>>>,
}

const EXCLUSIVE: i32 = -1;

/// Returns the calling thread's mark: its OS id, permuted.
///
/// Ids are addresses at mostly equal distances, so of three ids the middle one is often the mean
/// of the other two. Sums of ids would confuse them. The permutation, that of the cipher RC6
/// (Rivest, Robshaw, Sidney and Yin, 1998), is not linear.
#[inline(always)]
fn current_thread_mark() -> u64 {
    permute(ident::current())
}

#[inline(always)]
fn permute(os_id: u64) -> u64 {
    os_id.wrapping_mul(os_id.wrapping_mul(2).wrapping_add(1))
}

/// Returns the OS id with this mark.
fn os_id_of(mark: u64) -> u64 {
    // The lowest n bits of a mark depend on the lowest n bits of the id, and bit n on bit n.
    (0..u64::BITS).fold(0, |os_id, bit| os_id | (permute(os_id) ^ mark) & 1 << bit)
}

/// A shared borrow, which ends when it is dropped.
pub(crate) struct SharedBorrow<'a> {
    flag: &'a BorrowFlag,
    mark: u64,
}

/// An exclusive borrow, which ends when it is dropped.
pub(crate) struct ExclusiveBorrow<'a>(&'a BorrowFlag);

impl BorrowFlag {
    pub(crate) const fn new() -> Self {
        BorrowFlag {
            count: Cell::new(0),
            mark_sum: Cell::new(0),
            #[cfg(debug_assertions)]
            borrowed_at: Cell::new(None),
        }
    }

    /// Borrows the data, returning `None` if they are exclusively borrowed.
    ///
    /// # Safety
    ///
    /// The calling thread is in the critical section of the cell, now and when the borrow is
    /// dropped.
    #[inline(always)]
    pub(crate) unsafe fn try_borrow(
        &self,
        location: &'static Location<'static>,
    ) -> Option<SharedBorrow<'_>> {
        let count = self.count.get();
        if count < 0 {
            return None;
        }
        let mark = current_thread_mark();
        // Wraps, as in `RefCell`: the count overflows only through leaked borrows, and a negative
        // count acts as `EXCLUSIVE`.
        self.count.set(count.wrapping_add(1));
        self.mark_sum.set(self.mark_sum.get().wrapping_add(mark));
        self.record_location(location);
        Some(SharedBorrow { flag: self, mark })
    }

    /// Borrows the data exclusively, returning `None` if they are borrowed.
    ///
    /// # Safety
    ///
    /// As for [`try_borrow`](Self::try_borrow).
    #[inline(always)]
    pub(crate) unsafe fn try_borrow_mut(
        &self,
        location: &'static Location<'static>,
    ) -> Option<ExclusiveBorrow<'_>> {
        if self.count.get() != 0 {
            return None;
        }
        self.count.set(EXCLUSIVE);
        self.mark_sum.set(current_thread_mark());
        self.record_location(location);
        Some(ExclusiveBorrow(self))
    }

    #[inline(always)]
    fn record_location(&self, _location: &'static Location<'static>) {
        #[cfg(debug_assertions)]
        self.borrowed_at.set(Some(_location));
    }

    /// Returns `true` if the data are exclusively borrowed.
    ///
    /// # Safety
    ///
    /// The caller is in the critical section of the cell, or has stopped the world.
    pub(crate) unsafe fn is_mutably_borrowed(&self) -> bool {
        self.count.get() < 0
    }

    /// Copies the flag, for the message of a failed borrow.
    ///
    /// # Safety
    ///
    /// The calling thread is in the critical section of the cell.
    pub(crate) unsafe fn snapshot(&self) -> BorrowSnapshot {
        BorrowSnapshot {
            count: self.count.get(),
            mark_sum: self.mark_sum.get(),
            #[cfg(debug_assertions)]
            borrowed_at: self.borrowed_at.get(),
            #[cfg(not(debug_assertions))]
            borrowed_at: None,
        }
    }
}

impl Drop for SharedBorrow<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let BorrowFlag {
            count, mark_sum, ..
        } = self.flag;
        count.set(count.get().wrapping_sub(1));
        mark_sum.set(mark_sum.get().wrapping_sub(self.mark));
    }
}

impl Drop for ExclusiveBorrow<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.count.set(0);
        self.0.mark_sum.set(0);
    }
}

/// A copy of the flag. Looking up thread names calls into Python, which may suspend the critical
/// section, and the flag may then change.
#[derive(Clone, Copy)]
pub(crate) struct BorrowSnapshot {
    count: i32,
    mark_sum: u64,
    borrowed_at: Option<&'static Location<'static>>,
}

/// An error returned if the data of a [`PyProtected`](crate::PyProtected) are already borrowed.
///
/// No closure was called and no guard was created. The data and their borrows are unchanged. The
/// `?` operator converts the error to a Python `RuntimeError` in functions that return
/// [`PyResult`]. Methods without a `Result` panic with the same message.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyProtected;
///
/// # Python::initialize();
/// Python::attach(|py| {
///     let names = PyProtected::new(vec!["Ada"]);
///     let error = names.with(py, |_| names.try_with_mut(py, Vec::clear)).unwrap_err();
///     assert!(error.is_by_this_thread());
///     assert!(error.to_string().contains("by this thread, further up its stack"));
///     assert_eq!(names.into_inner(), ["Ada"]);
/// });
/// ```
pub struct ProtectedBorrowError(Box<Report>);

struct Report {
    type_name: &'static str,
    address: usize,
    borrows: BorrowSnapshot,
    this_thread: ThreadLabel,
    other_thread: Option<ThreadLabel>,
    requested: BorrowKind,
    caller: &'static Location<'static>,
    is_by_this_thread: bool,
}

/// The kind of the failed borrow.
#[derive(Clone, Copy)]
pub(crate) enum BorrowKind {
    Shared,
    Mutable,
}

impl ProtectedBorrowError {
    /// Creates the error for the `PyProtected<T>` at `address`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new<T: ?Sized>(
        py: Python<'_>,
        address: usize,
        borrows: BorrowSnapshot,
        requested: BorrowKind,
        caller: &'static Location<'static>,
    ) -> Self {
        let borrow_count = u64::from(borrows.count.unsigned_abs());
        let is_by_this_thread =
            borrows.mark_sum == current_thread_mark().wrapping_mul(borrow_count);
        exception_aside(py, || {
            let is_by_another = borrow_count == 1 && !is_by_this_thread;
            ProtectedBorrowError(Box::new(Report {
                type_name: type_name::<T>(),
                address,
                borrows,
                this_thread: ThreadLabel::of(py, ThreadRef::OsId(ident::current())),
                other_thread: is_by_another
                    .then(|| ThreadLabel::of(py, ThreadRef::OsId(os_id_of(borrows.mark_sum)))),
                requested,
                caller,
                is_by_this_thread,
            }))
        })
    }

    /// Returns `true` if this thread holds all conflicting borrows.
    ///
    /// A retry then fails until this thread ends them. Otherwise at least one other thread holds a
    /// borrow. Such a thread is inside a call into Python or detached, which suspended its critical
    /// section. A borrow that was lost to a fork, or whose guard was leaked, never ends.
    pub fn is_by_this_thread(&self) -> bool {
        self.0.is_by_this_thread
    }

    #[cold]
    #[track_caller]
    pub(crate) fn panic(self) -> ! {
        panic_with(&self, "use a `try_` form in destructors")
    }
}

impl fmt::Display for ProtectedBorrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.0;
        let requested = match report.requested {
            BorrowKind::Shared => "to borrow",
            BorrowKind::Mutable => "to mutably borrow",
        };
        write!(
            f,
            "already borrowed: the PyProtected<{}> at {:#x} is ",
            report.type_name, report.address
        )?;
        match report.borrows.count {
            count if count < 0 => write!(f, "mutably borrowed")?,
            1 => write!(f, "borrowed")?,
            count => write!(f, "borrowed {count} times")?,
        }
        if let Some(place) = report.borrows.borrowed_at {
            let last = if report.borrows.count > 1 {
                "last "
            } else {
                ""
            };
            write!(f, " ({last}at {place})")?;
        }
        match &report.other_thread {
            _ if report.is_by_this_thread => {
                f.write_str(" by this thread, further up its stack")?
            }
            Some(thread) => write!(f, " by thread {thread}")?,
            None => f.write_str(" by at least one other thread")?,
        }
        write!(
            f,
            "; thread {} tried {requested} it at {}; ",
            report.this_thread, report.caller
        )?;
        f.write_str(if report.is_by_this_thread {
            "end that borrow before calling code that may re-enter (a Python callback, a \
             `__del__`): copy what the call needs, or move it out with `replace`"
        } else {
            "end borrows before calling into Python or detaching (copy what the call needs, or \
             move it out with `replace`), or use a `PyMutex`, on which other threads block"
        })
    }
}

impl fmt::Debug for ProtectedBorrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectedBorrowError({:?})", self.to_string())
    }
}

impl error::Error for ProtectedBorrowError {}

impl From<ProtectedBorrowError> for PyErr {
    fn from(error: ProtectedBorrowError) -> Self {
        PyRuntimeError::new_err(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_id_of_inverts_permute() {
        for os_id in [
            0,
            1,
            0x7f00_0000_16c0,
            0x7f12_3456_76c0,
            u64::MAX,
            u64::MAX / 3,
        ] {
            assert_eq!(os_id_of(permute(os_id)), os_id);
        }
    }

    /// Uses ids at equal distances, as the threads of one process have.
    #[test]
    fn marks_of_equidistant_ids_do_not_average() {
        for distance in [0x1000, 0x20_1000, 0x80_1000, 1 << 28] {
            let os_id = 0x7f12_3456_76c0_u64;
            let both = permute(os_id - distance).wrapping_add(permute(os_id + distance));
            assert_ne!(both, permute(os_id).wrapping_mul(2));
        }
    }
}

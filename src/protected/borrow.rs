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
    // Narrower than `borrowers`. The compiler would read two equal fields as one vector after two
    // single stores, which stalls the processor for as long as the whole section takes.
    count: Cell<i32>,
    /// Sum of the [marks](mark) of the borrowing threads.
    ///
    /// For one borrow the sum identifies the thread. For several it shows whether this thread made
    /// all of them.
    borrowers: Cell<u64>,
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
fn mark() -> u64 {
    permuted(ident::current())
}

#[inline(always)]
fn permuted(number: u64) -> u64 {
    number.wrapping_mul(number.wrapping_mul(2).wrapping_add(1))
}

/// Returns the OS id with this mark.
fn number_of(mark: u64) -> u64 {
    // The lowest n bits of a mark depend on the lowest n bits of the id, and bit n on bit n.
    (0..u64::BITS).fold(0, |number, bit| {
        number | (permuted(number) ^ mark) & 1 << bit
    })
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
            borrowers: Cell::new(0),
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
        let mark = mark();
        // Wraps, as in `RefCell`: the count overflows only through leaked borrows, and a negative
        // count acts as `EXCLUSIVE`.
        self.count.set(count.wrapping_add(1));
        self.borrowers.set(self.borrowers.get().wrapping_add(mark));
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
        self.borrowers.set(mark());
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
    pub(crate) unsafe fn is_borrowed_exclusively(&self) -> bool {
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
            borrowers: self.borrowers.get(),
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
            count, borrowers, ..
        } = self.flag;
        count.set(count.get().wrapping_sub(1));
        borrowers.set(borrowers.get().wrapping_sub(self.mark));
    }
}

impl Drop for ExclusiveBorrow<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.count.set(0);
        self.0.borrowers.set(0);
    }
}

/// A copy of the flag. The error looks up thread names in Python, outside of the critical section.
#[derive(Clone, Copy)]
pub(crate) struct BorrowSnapshot {
    count: i32,
    borrowers: u64,
    borrowed_at: Option<&'static Location<'static>>,
}

/// An error returned if the data of a [`PyProtected`](crate::PyProtected) are already borrowed.
///
/// The closure was not called, and the data and their borrows are unchanged. The `?` operator
/// converts the error to a Python `RuntimeError` in functions that return [`PyResult`]. Methods
/// without a `Result` panic with the same message.
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
    holders: BorrowSnapshot,
    this_thread: ThreadLabel,
    other_thread: Option<ThreadLabel>,
    wanted: BorrowKind,
    caller: &'static Location<'static>,
    is_by_this_thread: bool,
}

/// The kind of the failed borrow.
#[derive(Clone, Copy)]
pub(crate) enum BorrowKind {
    Shared,
    Exclusive,
}

impl ProtectedBorrowError {
    /// Creates the error for the `PyProtected<T>` at `address`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new<T: ?Sized>(
        py: Python<'_>,
        address: usize,
        holders: BorrowSnapshot,
        wanted: BorrowKind,
        caller: &'static Location<'static>,
    ) -> Self {
        let number_of_borrows = u64::from(holders.count.unsigned_abs());
        let is_by_this_thread = holders.borrowers == mark().wrapping_mul(number_of_borrows);
        exception_aside(py, || {
            let is_by_another = number_of_borrows == 1 && !is_by_this_thread;
            ProtectedBorrowError(Box::new(Report {
                type_name: type_name::<T>(),
                address,
                holders,
                this_thread: ThreadLabel::of(py, ThreadRef::Unregistered(ident::current())),
                other_thread: is_by_another.then(|| {
                    ThreadLabel::of(py, ThreadRef::Unregistered(number_of(holders.borrowers)))
                }),
                wanted,
                caller,
                is_by_this_thread,
            }))
        })
    }

    /// Returns `true` if this thread holds the conflicting borrow, further up its stack.
    ///
    /// Trying again later then fails too. Otherwise another thread, or several, hold borrows and
    /// will end them. Such a thread is inside a call into Python or detached, which suspended its
    /// critical section.
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
        let wanted = match report.wanted {
            BorrowKind::Shared => "to borrow",
            BorrowKind::Exclusive => "to mutably borrow",
        };
        write!(
            f,
            "already borrowed: thread {} wanted at {} {wanted} the PyProtected<{}> at {:#x}, \
             which is ",
            report.this_thread, report.caller, report.type_name, report.address
        )?;
        match report.holders.count {
            count if count < 0 => write!(f, "mutably borrowed")?,
            1 => write!(f, "borrowed")?,
            count => write!(f, "borrowed {count} times")?,
        }
        if let Some(place) = report.holders.borrowed_at {
            let last = if report.holders.count > 1 {
                "last "
            } else {
                ""
            };
            write!(f, " ({last}at {place})")?;
        }
        match &report.other_thread {
            _ if report.is_by_this_thread => f.write_str(
                " by this thread, further up its stack; end that borrow before calling code \
                 that may come back here (a Python callback, a `__del__`): copy what the call \
                 needs, or move it out with `replace`",
            ),
            Some(thread) => write!(
                f,
                " by thread {thread}, which has called into Python or detached with it; end the \
                 borrow before such a call (copy what it needs, or move it out with `replace`), or \
                 use a `PyMutex`, for which others wait"
            ),
            None => f.write_str(
                " by several threads, which have called into Python or detached with it; end \
                 borrows before such a call (copy what it needs), or use a `PyMutex`, for which \
                 others wait",
            ),
        }
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
    fn a_mark_tells_its_number() {
        for number in [
            0,
            1,
            0x7f00_0000_16c0,
            0x7f12_3456_76c0,
            u64::MAX,
            u64::MAX / 3,
        ] {
            assert_eq!(number_of(permuted(number)), number);
        }
    }

    /// Uses ids at equal distances, as the threads of one process have.
    #[test]
    fn neighbours_are_not_taken_for_the_one_in_the_middle() {
        for distance in [0x1000, 0x20_1000, 0x80_1000, 1 << 28] {
            let number = 0x7f12_3456_76c0_u64;
            let both = permuted(number - distance).wrapping_add(permuted(number + distance));
            assert_ne!(both, permuted(number).wrapping_mul(2));
        }
    }
}

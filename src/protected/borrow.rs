//! The borrow flag of a [`PyProtected`](super::PyProtected), and the error of a borrow that cannot be had.

use std::{any::type_name, cell::Cell, error, fmt, panic::Location};

use pyo3::{PyErr, exceptions::PyRuntimeError, prelude::*};

use crate::{
    deadlock::panic_with,
    thread_label::ThreadLabel,
    wait::{exception_aside, ident},
};

/// Who has borrowed the data. Not an atomic: whoever uses it is in the critical section, or sees the world stopped.
///
/// | `count` | meaning | moves to |
/// |---|---|---|
/// | 0 | free | 1 by a shared borrow, [`EXCLUSIVE`] by an exclusive one |
/// | n > 0 | n shared borrows | n + 1 by another, n - 1 by the end of one |
/// | [`EXCLUSIVE`] | an exclusive borrow | 0 by its end |
///
/// All moves are made in the critical section of the cell: by the thread that borrows, and by the same thread when the borrow
/// ends, whatever became of the section in between. The collector reads it with the world stopped, when no thread is
/// amid a move: there is no call into Python in one.
pub(crate) struct BorrowFlag {
    /// Half as long as its neighbour: of two alike the compiler makes one vector, and to read that after two single writes stalls
    /// the processor, for as long as the whole section takes.
    count: Cell<i32>,
    /// The sum of the [marks](mark) of the threads that have borrowed, which tells them apart as far as messages need it: of one
    /// borrow it is the thread, and of more it tells whether they are all this thread's.
    borrowers: Cell<u64>,
    /// Where the last borrow was made, for messages. It makes the flag larger, in builds for debugging only.
    #[cfg(debug_assertions)]
    borrowed_at: Cell<Option<&'static Location<'static>>>,
}

const EXCLUSIVE: i32 = -1;

/// A number for the calling thread: of its number ([`ident`]) another one, by a permutation that is not linear. The sum of the numbers
/// themselves would not do: they are addresses, mostly at equal distances, so that of three threads the middle one is the mean of the
/// others. The permutation is that of the cipher RC6 (Rivest, Robshaw, Sidney and Yin, 1998).
#[inline(always)]
fn mark() -> u64 {
    permuted(ident::current())
}

#[inline(always)]
fn permuted(number: u64) -> u64 {
    number.wrapping_mul(number.wrapping_mul(2).wrapping_add(1))
}

/// The number whose mark this is.
fn number_of(mark: u64) -> u64 {
    // The lowest n bits of a mark depend on the lowest n bits of the number, and the n-th on the n-th.
    (0..u64::BITS).fold(0, |number, bit| {
        number | (permuted(number) ^ mark) & 1 << bit
    })
}

/// A shared borrow, until it is dropped.
pub(crate) struct Shared<'a> {
    flag: &'a BorrowFlag,
    mark: u64,
}

/// An exclusive borrow, until it is dropped.
pub(crate) struct Exclusive<'a>(&'a BorrowFlag);

impl BorrowFlag {
    pub(crate) const fn new() -> Self {
        BorrowFlag {
            count: Cell::new(0),
            borrowers: Cell::new(0),
            #[cfg(debug_assertions)]
            borrowed_at: Cell::new(None),
        }
    }

    /// # Safety
    ///
    /// The calling thread is in the critical section of the cell, now and when the borrow is dropped.
    #[inline(always)]
    pub(crate) unsafe fn share(&self, place: &'static Location<'static>) -> Option<Shared<'_>> {
        let count = self.count.get();
        if count < 0 {
            return None;
        }
        let mark = mark();
        // Wrapping, as in `RefCell`: only borrows that were forgotten can be so many, and the flag is `EXCLUSIVE` in effect then.
        self.count.set(count.wrapping_add(1));
        self.borrowers.set(self.borrowers.get().wrapping_add(mark));
        self.note(place);
        Some(Shared { flag: self, mark })
    }

    /// # Safety
    ///
    /// As [`share`](Self::share).
    #[inline(always)]
    pub(crate) unsafe fn borrow_exclusively(
        &self,
        place: &'static Location<'static>,
    ) -> Option<Exclusive<'_>> {
        if self.count.get() != 0 {
            return None;
        }
        self.count.set(EXCLUSIVE);
        self.borrowers.set(mark());
        self.note(place);
        Some(Exclusive(self))
    }

    #[inline(always)]
    fn note(&self, _place: &'static Location<'static>) {
        #[cfg(debug_assertions)]
        self.borrowed_at.set(Some(_place));
    }

    /// Whether the data may be looked at by the collector.
    ///
    /// # Safety
    ///
    /// No other thread is amid a change: the caller is in the critical section, or the world is stopped.
    pub(crate) unsafe fn is_borrowed_exclusively(&self) -> bool {
        self.count.get() < 0
    }

    /// What a borrow failed on.
    ///
    /// # Safety
    ///
    /// The calling thread is in the critical section of the cell.
    pub(crate) unsafe fn holders(&self) -> Holders {
        Holders {
            count: self.count.get(),
            borrowers: self.borrowers.get(),
            #[cfg(debug_assertions)]
            borrowed_at: self.borrowed_at.get(),
            #[cfg(not(debug_assertions))]
            borrowed_at: None,
        }
    }
}

impl Drop for Shared<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let BorrowFlag {
            count, borrowers, ..
        } = self.flag;
        count.set(count.get().wrapping_sub(1));
        borrowers.set(borrowers.get().wrapping_sub(self.mark));
    }
}

impl Drop for Exclusive<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.count.set(0);
        self.0.borrowers.set(0);
    }
}

/// A copy of the flag, from which the error is made outside of the critical section: that looks up names in Python.
#[derive(Clone, Copy)]
pub(crate) struct Holders {
    count: i32,
    borrowers: u64,
    borrowed_at: Option<&'static Location<'static>>,
}

/// A [`PyProtected`](crate::PyProtected) was asked for data that are borrowed already.
///
/// Nothing has happened then: the closure has not run, and the data and their borrows are as they were. With `?` it
/// becomes a Python exception, a `RuntimeError`, in any function that returns [`PyResult`]. The methods that return no
/// `Result` panic with the same message.
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
    holders: Holders,
    this_thread: ThreadLabel,
    other_thread: Option<ThreadLabel>,
    wanted: Wanted,
    asked_at: &'static Location<'static>,
    is_by_this_thread: bool,
}

/// What was asked for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    Shared,
    Exclusive,
}

impl ProtectedBorrowError {
    /// `address` is the cell's, a `PyProtected<T>`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new<T: ?Sized>(
        py: Python<'_>,
        address: usize,
        holders: Holders,
        wanted: Wanted,
        asked_at: &'static Location<'static>,
    ) -> Self {
        let number_of_borrows = u64::from(holders.count.unsigned_abs());
        let is_by_this_thread = holders.borrowers == mark().wrapping_mul(number_of_borrows);
        exception_aside(py, || {
            let is_by_another = number_of_borrows == 1 && !is_by_this_thread;
            ProtectedBorrowError(Box::new(Report {
                type_name: type_name::<T>(),
                address,
                holders,
                this_thread: ThreadLabel::of_number(py, ident::current()),
                other_thread: is_by_another
                    .then(|| ThreadLabel::of_number(py, number_of(holders.borrowers))),
                wanted,
                asked_at,
                is_by_this_thread,
            }))
        })
    }

    /// Whether the borrow in the way is this thread's own, further up its stack: then it is no use to try again later.
    ///
    /// Otherwise another thread has the data, or several do, and will give them back: it is inside a call into Python, or
    /// detached, so that the critical section of the cell was open for this thread.
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
            Wanted::Shared => "to borrow",
            Wanted::Exclusive => "to mutably borrow",
        };
        write!(
            f,
            "already borrowed: thread {} wanted at {} {wanted} the PyProtected<{}> at {:#x}, which is ",
            report.this_thread, report.asked_at, report.type_name, report.address
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
                " by this thread, further up its stack; end that borrow before calling code that may come back here \
                 (a Python callback, a `__del__`): copy what the call needs, or move it out with `replace`",
            ),
            Some(thread) => write!(
                f,
                " by thread {thread}, which has called into Python or detached with it; end the borrow before such a \
                 call (copy what it needs, or move it out with `replace`), or use a `PyMutex`, for which others wait"
            ),
            None => f.write_str(
                " by several threads, which have called into Python or detached with it; end borrows before such a \
                 call (copy what it needs), or use a `PyMutex`, for which others wait",
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

    /// Threads whose numbers have equal distances, as those of one process do.
    #[test]
    fn neighbours_are_not_taken_for_the_one_in_the_middle() {
        for distance in [0x1000, 0x20_1000, 0x80_1000, 1 << 28] {
            let number = 0x7f12_3456_76c0_u64;
            let both = permuted(number - distance).wrapping_add(permuted(number + distance));
            assert_ne!(both, permuted(number).wrapping_mul(2));
        }
    }
}

//! A wait that could never have ended, reported instead of slept through.

use std::{error, fmt, panic::Location};

use pyo3::{PyErr, prelude::*};

use crate::{
    thread_label::ThreadLabel,
    wait::{Awaited, Holders, Link, Party, exception_aside},
};

/// The exception that Python code sees in place of a deadlock.
pub mod exceptions {
    pyo3::create_exception!(
        pyo3_sync,
        DeadlockError,
        pyo3::exceptions::PyRuntimeError,
        "A thread asked for a lock that it could never have got."
    );
}

/// Adds the exception classes of this crate to a module, so that Python code can name them.
///
/// Each extension has classes of its own. All are called `pyo3_sync.DeadlockError` in tracebacks, and are subclasses of
/// `RuntimeError`; there is no Python module of that name. So they cannot be pickled, and a process of `multiprocessing` that lets one out
/// has it replaced by an error of pickling: catch it there.
///
/// ```
/// use pyo3::prelude::*;
///
/// #[pymodule]
/// fn my_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
///     pyo3_sync::add_exceptions(module) // `my_extension.DeadlockError`
/// }
/// ```
///
/// # Errors
///
/// What the module raises when an attribute is added to it.
pub fn add_exceptions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(
        "DeadlockError",
        module.py().get_type::<exceptions::DeadlockError>(),
    )
}

/// A wait that could never have ended.
///
/// Methods that return it have done nothing: no lock was taken, and every lock the thread held it still holds. It
/// turns into a Python exception, [`exceptions::DeadlockError`], a subclass of `RuntimeError`, with `?` in any
/// function that returns [`PyResult`]. The methods that return no `Result` panic with the same message.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyMutex;
///
/// # Python::initialize();
/// Python::attach(|py| {
///     let mutex = PyMutex::new(0);
///     let _guard = mutex.lock(py);
///     let error = mutex.lock_checked(py).unwrap_err();
///     assert!(error.to_string().contains("already holds"));
/// });
/// ```
///
/// What the messages look like, and what to do about each, is told in the chapter [Deadlocks](crate::deadlocks).
pub struct DeadlockError(Box<Report>);

struct Report {
    cause: Cause,
    /// The thread that asked first, and then those it would have waited for.
    steps: Vec<Step>,
}

/// A [`Link`] with its thread's name.
struct Step {
    thread: ThreadLabel,
    awaited: Awaited,
}

/// What kind of lock it is, by the type that the author used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    RwLock,
    OnceLock,
    /// A [`PyOnce`](crate::PyOnce), which is a cell inside.
    Once,
    /// A [`PyLazy`](crate::PyLazy) or [`PyTryLazy`](crate::PyTryLazy), as well.
    Lazy,
    Condvar,
    /// A [`PyBarrier`](crate::PyBarrier), in which threads wait as in a condition variable.
    Barrier,
}

impl LockKind {
    /// Whether it is filled, or done, once, by its owner.
    pub(crate) fn is_cell(self) -> bool {
        matches!(self, LockKind::OnceLock | LockKind::Once | LockKind::Lazy)
    }

    /// What its owner does, if it is such a one.
    fn run_by_owner(self) -> &'static str {
        match self {
            LockKind::Once => "closure",
            LockKind::Lazy => "function",
            _ => "initialiser",
        }
    }
}

/// Why the wait could never have ended.
#[derive(Clone, Copy)]
pub(crate) enum Cause {
    /// The thread waits for itself: at once, or over others.
    Cycle,
    /// The interpreter is shutting down, and only the thread that asks can still run Python code.
    Finalizing,
    /// The owner was left behind by a fork.
    Abandoned,
}

impl DeadlockError {
    pub(crate) fn new(py: Python<'_>, cause: Cause, links: Vec<Link>) -> Self {
        let steps = exception_aside(py, || {
            links
                .into_iter()
                .map(|Link { thread, awaited }| Step {
                    thread: match thread {
                        Party::Known(thread) => ThreadLabel::of(py, thread),
                        Party::Stranger(number) => ThreadLabel::of_number(py, number),
                    },
                    awaited,
                })
                .collect()
        });
        DeadlockError(Box::new(Report { cause, steps }))
    }

    #[cold]
    #[track_caller]
    pub(crate) fn panic(self) -> ! {
        panic_with(
            &self,
            "use a `try_` or `_checked` form in destructors (`try_lock`, `lock_checked`)",
        )
    }
}

/// Panics with `message`.
///
/// A panic that leaves a destructor which runs during unwinding aborts the process. A function
/// without a `Result` cannot avoid that, so the message ends with `cure` then.
#[cold]
#[track_caller]
pub(crate) fn panic_with(message: &dyn fmt::Display, cure: &str) -> ! {
    if std::thread::panicking() {
        panic!(
            "{message}; this thread is already panicking, and a panic that leaves a destructor \
             aborts the process: {cure}"
        )
    }
    panic!("{message}")
}

impl fmt::Display for DeadlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { cause, steps } = &*self.0;
        match (cause, &steps[..]) {
            (Cause::Cycle, [step]) => write!(
                f,
                "deadlock: {step}, {}; {}",
                step.awaited.owned_by_itself(),
                step.awaited.advice_on_reentry()
            ),
            (Cause::Cycle, steps) => fmt_cycle(f, steps),
            (Cause::Finalizing, [step, ..]) => write!(
                f,
                "deadlock: {step}, {}, because the interpreter is shutting down; have no thread left that uses it when \
                 the process exits, or let finalisers use a `try_` form",
                step.awaited.lost()
            ),
            (Cause::Abandoned, [step, ..]) => write!(
                f,
                "deadlock: {step}, {}; release it before forking, or give it new data in the child with \
                 `reset_abandoned`",
                step.awaited
                    .owned_by("a thread that was not taken along when this process was forked")
            ),
            (_, []) => f.write_str("deadlock"),
        }
    }
}

/// One line for each thread.
fn fmt_cycle(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    writeln!(f, "deadlock: {} threads wait for each other", steps.len())?;
    for (number, step) in steps.iter().enumerate() {
        let next = &steps[(number + 1) % steps.len()].thread.to_string();
        writeln!(f, "  {step}, {}", step.awaited.owned_by(next))?;
    }
    f.write_str(advice_on_cycle(steps))
}

/// Says how to avoid a cycle, by what the threads in it wait for.
fn advice_on_cycle(steps: &[Step]) -> &'static str {
    let (mut has_cell, mut has_import, mut has_lock) = (false, false, false);
    for step in steps {
        match step.awaited {
            Awaited::Import { .. } => has_import = true,
            Awaited::Lock { kind, .. } if kind.is_cell() => has_cell = true,
            Awaited::Lock { .. } => has_lock = true,
        }
    }
    match (has_lock, has_cell, has_import) {
        (true, false, false) => {
            "acquire the locks in one order everywhere, or release the first before requesting the \
             second (`PyMutexGuard::unlocked`, `try_lock`)"
        }
        (true, true, false) => {
            "release the lock before calling code that initializes the value \
             (`PyMutexGuard::unlocked`), or initialize the value before acquiring the lock"
        }
        (true, false, true) => {
            "release the lock before calling code that imports (`PyMutexGuard::unlocked`), or \
             import the module before acquiring the lock"
        }
        (true, true, true) => {
            "release the lock before calling code that imports or that initializes the value \
             (`PyMutexGuard::unlocked`), or import and initialize before acquiring the lock"
        }
        (false, true, true) => {
            "import the module before initializing the value; for imported objects use `PyImport` \
             or `PyOnceLock::import`, which hold nothing while they import"
        }
        (false, ..) => {
            "initialize one value before the other, outside of its initializer, or call no code \
             in an initializer that needs the other value"
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = &self.thread;
        match &self.awaited {
            Awaited::Lock {
                kind,
                address,
                asked_at,
                ..
            } => write!(
                f,
                "thread {thread} asked at {asked_at} for the {kind} at {address:#x}"
            ),
            Awaited::Import { module } => {
                write!(f, "thread {thread} imports the module {module:?}")
            }
        }
    }
}

/// Where a lock was taken, in brackets, if that is known.
fn since(taken_at: Option<&Location<'_>>) -> String {
    taken_at.map_or_else(String::new, |place| format!(" (since {place})"))
}

impl Awaited {
    /// Says what `owner` has to do with it.
    fn owned_by(&self, owner: &str) -> String {
        let Awaited::Lock {
            kind,
            holders,
            taken_at,
            is_pending,
            ..
        } = self
        else {
            return format!("which is being imported by {owner}");
        };
        let since = since(*taken_at);
        match (kind, holders) {
            (kind, _) if kind.is_cell() => {
                format!("whose {} is run{since} by {owner}", kind.run_by_owner())
            }
            (LockKind::Condvar, _) => format!("to be notified by {owner}"),
            (LockKind::Barrier, _) => format!("to meet {owner}"),
            (LockKind::RwLock, Holders::Readers(_)) => format!("locked for reading by {owner}"),
            (LockKind::RwLock, _) if *is_pending => {
                format!("which {owner} waits to write to{since}")
            }
            (LockKind::RwLock, _) => format!("locked for writing{since} by {owner}"),
            _ => format!("held{since} by {owner}"),
        }
    }

    fn owned_by_itself(&self) -> String {
        let Awaited::Lock {
            kind,
            holders,
            taken_at,
            is_pending,
            ..
        } = self
        else {
            return "which it is importing".to_owned();
        };
        let since = since(*taken_at);
        match (kind, holders) {
            (kind, _) if kind.is_cell() => {
                format!("whose {} it is running{since}", kind.run_by_owner())
            }
            (LockKind::RwLock, Holders::Readers(_)) => {
                "to write to it, while it reads it itself".to_owned()
            }
            (LockKind::RwLock, _) if *is_pending => format!("which it waits to write to{since}"),
            (LockKind::RwLock, _) => format!("which it has locked for writing{since}"),
            _ => format!("which it already holds{since}"),
        }
    }

    /// Says that its owner will not come back.
    fn lost(&self) -> String {
        match self {
            Awaited::Lock { kind, .. } if kind.is_cell() => {
                "which no other thread can fill any more".to_owned()
            }
            Awaited::Lock {
                kind: LockKind::Condvar,
                ..
            } => "which no other thread can notify of a change any more".to_owned(),
            Awaited::Lock {
                kind: LockKind::Barrier,
                ..
            } => "to which no other thread can come any more".to_owned(),
            _ => self.owned_by("a thread that cannot run any more"),
        }
    }

    fn advice_on_reentry(&self) -> &'static str {
        match self {
            Awaited::Lock {
                kind: LockKind::Once,
                ..
            } => "let no code that the closure calls come back to the same `PyOnce`",
            Awaited::Lock {
                kind: LockKind::Lazy,
                ..
            } => "let no code that the function calls ask for the value that it is to make",
            Awaited::Lock {
                kind: LockKind::OnceLock,
                ..
            } => {
                "compute what the initialiser needs before asking for the cell, and let no code that it calls \
                 ask for the same cell"
            }
            Awaited::Lock {
                is_pending: true, ..
            } => {
                "let signal handlers and finalisers, which run on a thread that waits, use a `try_` form"
            }
            Awaited::Lock {
                holders: Holders::Readers(_),
                ..
            } => {
                "copy what is needed out of what it reads, and drop that guard, before asking to write: the two may be \
                 in one statement"
            }
            _ => {
                "drop the guard before calling code that may come back here (a Python callback, a `__del__`), \
                 or use `try_lock` in that code"
            }
        }
    }
}

impl fmt::Debug for DeadlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadlockError({:?})", self.to_string())
    }
}

impl error::Error for DeadlockError {}

impl From<DeadlockError> for PyErr {
    fn from(error: DeadlockError) -> Self {
        exceptions::DeadlockError::new_err(error.to_string())
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockKind::Mutex => "PyMutex",
            LockKind::RwLock => "PyRwLock",
            LockKind::Condvar => "PyCondvar",
            LockKind::OnceLock => "PyOnceLock",
            LockKind::Once => "PyOnce",
            LockKind::Lazy => "PyLazy",
            LockKind::Barrier => "PyBarrier",
        })
    }
}

//! Errors for waits that can never end.

use std::{error, fmt, panic::Location};

use pyo3::{PyErr, prelude::*};

use crate::{
    thread_label::ThreadLabel,
    wait::{Awaited, Holders, Link, Party, exception_aside},
};

/// The Python exceptions that report deadlocks.
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
/// ```
/// use pyo3::prelude::*;
///
/// #[pymodule]
/// fn my_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
///     pyo3_sync::add_exceptions(module) // `my_extension.DeadlockError`
/// }
/// ```
///
/// Each extension has its own class. Tracebacks name it `pyo3_sync.DeadlockError`, but there is no
/// Python module of that name. The exception therefore cannot be pickled: in a `multiprocessing`
/// worker, an uncaught one is replaced by a pickling error. Catch it in the worker.
///
/// # Errors
///
/// Returns the exception raised if the attribute cannot be added to the module.
pub fn add_exceptions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(
        "DeadlockError",
        module.py().get_type::<exceptions::DeadlockError>(),
    )
}

/// An error returned if a wait could never end.
///
/// A method that returns it has acquired no lock, and the thread keeps the locks it holds. In a
/// function that returns [`PyResult`], `?` converts the error to [`exceptions::DeadlockError`], a
/// subclass of `RuntimeError`. Methods that return no `Result` panic with the same message.
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
/// See [Deadlocks](crate::deadlocks) for the messages and how to fix their causes.
pub struct DeadlockError(Box<Report>);

struct Report {
    cause: Cause,
    /// The requesting thread first, then the threads that it would have waited for.
    steps: Vec<Step>,
}

/// A [`Link`] with the name of its thread.
struct Step {
    thread: ThreadLabel,
    awaited: Awaited,
}

/// The public type of a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    RwLock,
    OnceLock,
    /// A [`PyOnce`](crate::PyOnce), which contains a cell.
    Once,
    /// A [`PyLazy`](crate::PyLazy) or [`PyTryLazy`](crate::PyTryLazy), which contain a cell.
    Lazy,
    Condvar,
    /// A [`PyBarrier`](crate::PyBarrier), which contains a condition variable.
    Barrier,
}

impl LockKind {
    /// Returns whether the owner is an initializer, which runs once.
    pub(crate) fn is_cell(self) -> bool {
        matches!(self, LockKind::OnceLock | LockKind::Once | LockKind::Lazy)
    }

    /// Returns what the owner of a cell runs.
    fn run_by_owner(self) -> &'static str {
        match self {
            LockKind::Once => "closure",
            LockKind::Lazy => "function",
            _ => "initialiser",
        }
    }
}

/// The reason why a wait can never end.
#[derive(Clone, Copy)]
pub(crate) enum Cause {
    /// The thread waits for itself, directly or through other threads.
    Cycle,
    /// The interpreter is finalizing, and only the calling thread can still run Python code.
    Finalizing,
    /// The owner was lost to a fork.
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

/// Writes one line for each thread of the cycle.
fn fmt_cycle(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    writeln!(f, "deadlock: {} threads wait for each other", steps.len())?;
    for (number, step) in steps.iter().enumerate() {
        let next = &steps[(number + 1) % steps.len()].thread.to_string();
        writeln!(f, "  {step}, {}", step.awaited.owned_by(next))?;
    }
    f.write_str(advice_on_cycle(steps))
}

/// Returns how to avoid a cycle, depending on what its threads wait for.
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

/// Formats the place where a lock was acquired, if recorded.
fn since(taken_at: Option<&Location<'_>>) -> String {
    taken_at.map_or_else(String::new, |place| format!(" (since {place})"))
}

impl Awaited {
    /// Describes how `owner` holds the resource.
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

    /// Describes a resource whose owner can never run again.
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

//! The errors of waits, and their messages.

use std::{
    error, fmt,
    panic::{Location, resume_unwind},
};

use pyo3::{
    PyErr,
    exceptions::{PyRuntimeError, PyTimeoutError},
    prelude::*,
};

use crate::{
    python::exception_aside,
    thread_label::ThreadLabel,
    wait::{Cause, Deadlock, Failure, Holders, LockKind, Resource, Role, WaitEdge},
};

/// The Python exceptions that report deadlocks.
pub mod exceptions {
    pyo3::create_exception!(
        pyo3_sync,
        DeadlockError,
        pyo3::exceptions::PyRuntimeError,
        "A blocking call could never return."
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
/// Unless the method says otherwise, it has acquired no lock, and the thread keeps the locks it
/// holds. In a
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
    lines: Vec<ReportLine>,
}

/// A [`WaitEdge`] with the name of its thread.
struct ReportLine {
    thread: ThreadLabel,
    resource: Resource,
}

impl DeadlockError {
    /// Converts the failure of a wait without timeout that signals do not interrupt.
    ///
    /// # Panics
    ///
    /// Panics if the wait timed out or was interrupted.
    pub(crate) fn new(py: Python<'_>, failure: Failure) -> Self {
        match WaitError::new(py, failure) {
            WaitError::Deadlock(error) => error,
            WaitError::TimedOut | WaitError::Interrupted(_) => {
                unreachable!("this wait has no timeout and is not interruptible")
            }
        }
    }

    fn from_deadlock(py: Python<'_>, Deadlock { cause, edges }: Deadlock) -> Self {
        let line = |WaitEdge { thread, resource }| {
            let thread = ThreadLabel::of(py, thread);
            ReportLine { thread, resource }
        };
        let lines = exception_aside(py, || edges.into_iter().map(line).collect());
        DeadlockError(Box::new(Report { cause, lines }))
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
/// If the thread is already panicking, the process may abort, because no panic may leave a
/// destructor during unwinding. The message then ends with `help`.
#[cold]
#[track_caller]
pub(crate) fn panic_with(message: &dyn fmt::Display, help: &str) -> ! {
    if std::thread::panicking() {
        panic!(
            "{message}; this thread is already panicking, and a panic that leaves a destructor \
             aborts the process: {help}"
        )
    }
    panic!("{message}")
}

/// An error returned by a method that takes a [`Wait`](crate::Wait).
///
/// No lock has been acquired, unless the method says otherwise. In a function that returns
/// [`PyResult`], `?` converts the error to a Python exception: [`exceptions::DeadlockError`],
/// `TimeoutError`, or the exception of the signal handler.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{PyMutex, WaitError};
/// use std::time::Duration;
///
/// # Python::initialize();
/// # Python::attach(|py| {
/// let mutex = PyMutex::new(0);
/// let _guard = mutex.lock(py);
/// let error = mutex.lock_with(py, Duration::from_millis(1)).unwrap_err();
/// assert!(matches!(error, WaitError::TimedOut));
/// # });
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitError {
    /// The wait could never end.
    Deadlock(DeadlockError),
    /// The timeout or deadline expired.
    TimedOut,
    /// A Python signal handler raised this exception, usually a `KeyboardInterrupt`.
    Interrupted(PyErr),
}

impl WaitError {
    /// Converts the failure of a wait. Resumes a panic.
    pub(crate) fn new(py: Python<'_>, failure: Failure) -> Self {
        match failure {
            Failure::Deadlock(deadlock) => {
                WaitError::Deadlock(DeadlockError::from_deadlock(py, deadlock))
            }
            Failure::Interrupted(error) => WaitError::Interrupted(error),
            Failure::Panicked(panic) => resume_unwind(panic),
            Failure::TimedOut => WaitError::TimedOut,
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Deadlock(error) => error.fmt(f),
            WaitError::TimedOut => f.write_str("the wait timed out"),
            WaitError::Interrupted(error) => write!(f, "a signal handler raised {error}"),
        }
    }
}

impl error::Error for WaitError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            WaitError::Interrupted(error) => Some(error),
            WaitError::Deadlock(_) | WaitError::TimedOut => None,
        }
    }
}

impl From<WaitError> for PyErr {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Deadlock(error) => error.into(),
            WaitError::TimedOut => PyTimeoutError::new_err(error.to_string()),
            WaitError::Interrupted(error) => error,
        }
    }
}

impl From<DeadlockError> for WaitError {
    fn from(error: DeadlockError) -> Self {
        WaitError::Deadlock(error)
    }
}

/// An error returned by methods that attach and lock.
///
/// See [`PyMutex::try_with_attached`](crate::PyMutex::try_with_attached),
/// [`PyRwLock::try_read_attached`](crate::PyRwLock::try_read_attached) and
/// [`PyRwLock::try_write_attached`](crate::PyRwLock::try_write_attached).
///
/// ```
/// use pyo3_sync::{PyMutex, TryAttachedError};
///
/// static HITS: PyMutex<u64> = PyMutex::new(0);
///
/// fn hits() -> Option<u64> {
///     match HITS.try_with_attached(|_py, hits| *hits) {
///         Ok(hits) => Some(hits),
///         Err(TryAttachedError::NotAttached) => None,
///         Err(error) => panic!("{error}"),
///     }
/// }
/// # pyo3::Python::initialize();
/// # assert_eq!(hits(), Some(0));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TryAttachedError {
    /// The thread could not attach to the interpreter.
    NotAttached,
    /// Waiting for the lock could never end.
    Deadlock(DeadlockError),
}

impl fmt::Display for TryAttachedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryAttachedError::NotAttached => {
                f.write_str("this thread cannot attach to the Python interpreter now")
            }
            TryAttachedError::Deadlock(error) => error.fmt(f),
        }
    }
}

impl error::Error for TryAttachedError {}

/// Converts the error to a `RuntimeError`, or to the exception of the [`DeadlockError`].
impl From<TryAttachedError> for PyErr {
    fn from(error: TryAttachedError) -> Self {
        match error {
            TryAttachedError::NotAttached => PyRuntimeError::new_err(error.to_string()),
            TryAttachedError::Deadlock(error) => error.into(),
        }
    }
}

impl From<DeadlockError> for TryAttachedError {
    fn from(error: DeadlockError) -> Self {
        TryAttachedError::Deadlock(error)
    }
}

impl fmt::Display for DeadlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { cause, lines } = &*self.0;
        match (cause, &lines[..]) {
            (Cause::Cycle, [line]) => write!(
                f,
                "deadlock: {}; {}",
                line.resource.reentry(&line.thread),
                line.resource.advice_on_reentry()
            ),
            (Cause::Cycle, lines) => fmt_cycle(f, lines),
            (Cause::Finalizing, [line, ..]) => write!(
                f,
                "deadlock: {line}, {}, and the interpreter is shutting down; join the other \
                 threads before the interpreter exits, or use a `try_` or `_checked` form in \
                 finalizers",
                line.resource.lost()
            ),
            (Cause::Abandoned, [line, ..]) => write!(
                f,
                "deadlock: {line}, {}; release it before forking, or call `reset_abandoned` in \
                 the child",
                line.resource
                    .held_by("a thread that does not exist in this forked child")
            ),
            (_, []) => f.write_str("deadlock"),
        }
    }
}

/// Writes one line for each thread of the cycle.
fn fmt_cycle(f: &mut fmt::Formatter<'_>, lines: &[ReportLine]) -> fmt::Result {
    writeln!(f, "deadlock: {} threads wait for each other", lines.len())?;
    for (number, line) in lines.iter().enumerate() {
        let next = format!("thread {}", lines[(number + 1) % lines.len()].thread);
        writeln!(f, "  {line}, {}", line.resource.held_by(&next))?;
    }
    f.write_str(advice_on_cycle(lines))
}

/// Returns how to avoid a cycle, depending on what its threads wait for.
fn advice_on_cycle(lines: &[ReportLine]) -> &'static str {
    let (mut has_cell, mut has_import, mut has_lock) = (false, false, false);
    for line in lines {
        match line.resource {
            Resource::Import { .. } => has_import = true,
            Resource::Lock { kind, .. } => match kind.role {
                Role::Initializer(_) => has_cell = true,
                _ => has_lock = true,
            },
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

impl fmt::Display for ReportLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = &self.thread;
        match &self.resource {
            Resource::Lock { caller, .. } => {
                let lock = self.resource.name();
                write!(f, "thread {thread} waits at {caller} for the {lock}")
            }
            Resource::Import { module } => {
                write!(f, "thread {thread} waits to import the module {module:?}")
            }
        }
    }
}

/// Formats the place where a lock was acquired, if recorded.
fn acquired(acquired_at: Option<&Location<'_>>) -> String {
    acquired_at.map_or_else(String::new, |place| format!(" (acquired at {place})"))
}

impl Resource {
    /// Names a lock by its type and address, and by the place where it was created, if recorded.
    ///
    /// The locks of all instances of a class are created at the same place.
    fn name(&self) -> String {
        match self {
            Resource::Lock {
                kind,
                address,
                created_at,
                ..
            } => {
                let created = created_at.map_or_else(String::new, |at| format!(" created at {at}"));
                format!("{} at {address:#x}{created}", kind.name)
            }
            Resource::Import { module } => format!("import lock of {module:?}"),
        }
    }

    /// Describes how `owner` holds the resource.
    fn held_by(&self, owner: &str) -> String {
        let Resource::Lock {
            kind,
            holders,
            acquired_at,
            is_draining,
            ..
        } = self
        else {
            return format!("which {owner} is importing");
        };
        let acquired = acquired(*acquired_at);
        match (kind.role, holders) {
            (Role::Initializer(initializer), _) => {
                format!("whose {initializer} is running on {owner}{acquired}")
            }
            (Role::Notification, _) => format!("which {owner} would have to notify"),
            (Role::Rendezvous, _) => format!("at which {owner} would have to arrive"),
            (Role::ReadWrite, Holders::Readers(_)) => format!("held for reading by {owner}"),
            (Role::ReadWrite, _) if *is_draining => {
                format!("owned by {owner}, which waits for readers to drain{acquired}")
            }
            (Role::ReadWrite, _) => format!("held for writing by {owner}{acquired}"),
            (Role::Exclusive, _) => format!("held by {owner}{acquired}"),
        }
    }

    /// Describes a request for a resource that the same thread holds.
    fn reentry(&self, thread: &ThreadLabel) -> String {
        let lock = self.name();
        let Resource::Lock {
            kind,
            holders,
            caller,
            acquired_at,
            is_draining,
            ..
        } = self
        else {
            return format!("thread {thread} is already importing the module: {lock}");
        };
        let acquired = acquired(*acquired_at);
        match (kind.role, holders) {
            (Role::Initializer(initializer), _) => format!(
                "thread {thread} is running the {initializer} of the {lock}{acquired}, and \
                 accessed the {} again at {caller}",
                kind.name
            ),
            (Role::ReadWrite, Holders::Readers(_)) => format!(
                "thread {thread} already holds the {lock} for reading, and requested it for \
                 writing at {caller}"
            ),
            (Role::ReadWrite, _) if *is_draining => format!(
                "thread {thread} is already waiting to write to the {lock}{acquired}, and \
                 requested it again at {caller}"
            ),
            (Role::ReadWrite, _) => format!(
                "thread {thread} already holds the {lock} for writing{acquired}, and requested \
                 it again at {caller}"
            ),
            _ => format!(
                "thread {thread} already holds the {lock}{acquired}, and requested it again at \
                 {caller}"
            ),
        }
    }

    /// Describes a resource whose owner can never run again.
    fn lost(&self) -> String {
        match self {
            Resource::Lock { kind, .. } => match kind.role {
                Role::Initializer(_) => "which no other thread can initialize any more".to_owned(),
                Role::Notification => "which no other thread can notify any more".to_owned(),
                Role::Rendezvous => "at which no other thread can arrive any more".to_owned(),
                Role::Exclusive | Role::ReadWrite => {
                    self.held_by("a thread that cannot run any more")
                }
            },
            Resource::Import { .. } => self.held_by("a thread that cannot run any more"),
        }
    }

    fn advice_on_reentry(&self) -> &'static str {
        match self {
            Resource::Lock {
                kind:
                    LockKind {
                        role: Role::Initializer(_),
                        ..
                    },
                ..
            } => {
                "compute the inputs of the initializer before accessing the cell, and do not \
                 access the cell from code that the initializer calls"
            }
            Resource::Lock {
                is_draining: true, ..
            } => {
                "use a `try_` form in signal handlers and finalizers, which run on a waiting thread"
            }
            Resource::Lock {
                holders: Holders::Readers(_),
                ..
            } => {
                "copy what you need and drop the read guard before requesting to write; a \
                 temporary guard lives until the end of its statement"
            }
            _ => {
                "release the guard before calling Python code that may re-enter (a callback, a \
                 `__del__`), or use a `try_` form in that code (`try_lock`, \
                 `try_write`)"
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

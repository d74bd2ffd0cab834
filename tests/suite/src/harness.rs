//! What tests need again and again: threads that are attached, waiting that lets others run, child processes.
//!
//! A test is called attached. Whatever here takes `py` detaches while it waits, so that the threads it waits for can run on a GIL
//! build, and so that nothing here can be the reason for a hang.

use std::env;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync;
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::child::{EMBEDDED, scenario};

/// How long the `wait_until` functions wait: less than a test's limit, so that the message is seen.
const PATIENCE: Duration = Duration::from_secs(8);

const POLL: Duration = Duration::from_millis(1);

/// What looks into this process while it runs, if something does: `cargo xtask sanitize` tells.
pub fn sanitizer() -> Option<String> {
    env::var("PYO3_SYNC_SUITE_SANITIZER").ok()
}

/// How much longer everything may take: a process that is looked into is slow.
pub fn slowdown() -> u32 {
    if sanitizer().is_some() { 8 } else { 1 }
}

/// For tests that measure memory.
pub fn unless_sanitized(_: Python<'_>) -> Option<String> {
    let sanitizer = sanitizer()?;
    Some(format!("the {sanitizer} sanitizer uses memory of its own"))
}

/// Whether this interpreter was built without a GIL, whatever the extension was built for.
pub fn is_free_threaded(py: Python<'_>) -> bool {
    let version: PyResult<String> = py
        .import("sys")
        .and_then(|sys| sys.getattr("version")?.extract());
    version
        .expect("an interpreter has a version")
        .contains("free-threading")
}

/// On Windows no process can send a signal to one of its own, nor have one sent after a while.
pub fn without_signals(py: Python<'_>) -> Option<String> {
    let has_signals = py
        .import("signal")
        .and_then(|signal| signal.hasattr("setitimer"));
    (!has_signals.unwrap_or(false)).then(|| "this system has no signals to send".to_owned())
}

/// Polls `condition`, attached, and detaches in between; panics with `description` when it does not come true.
pub fn wait_until(py: Python<'_>, description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE * slowdown(),
            "waited in vain until {description}"
        );
        py.detach(|| thread::sleep(POLL));
    }
}

/// [`wait_until`] for threads that are not attached.
pub fn wait_until_detached(description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE * slowdown(),
            "waited in vain until {description}"
        );
        thread::sleep(POLL);
    }
}

/// Runs `body` on `count` threads at once, each attached, with the numbers from 0. Passes on a panic, after all have ended.
pub fn on_threads<R: Send>(
    py: Python<'_>,
    count: usize,
    body: impl Fn(Python<'_>, usize) -> R + Sync,
) -> Vec<R> {
    let body = &body;
    py.detach(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|number| scope.spawn(move || Python::attach(|py| body(py, number))))
                .collect();
            threads.into_iter().map(join).collect()
        })
    })
}

/// Runs two different bodies at once, each on a thread of its own, attached.
pub fn on_two_threads<A: Send, B: Send>(
    py: Python<'_>,
    first: impl FnOnce(Python<'_>) -> A + Send,
    second: impl FnOnce(Python<'_>) -> B + Send,
) -> (A, B) {
    py.detach(|| {
        thread::scope(|scope| {
            let first = scope.spawn(|| Python::attach(first));
            let second = scope.spawn(|| Python::attach(second));
            (join(first), join(second))
        })
    })
}

fn join<R>(thread: thread::ScopedJoinHandle<'_, R>) -> R {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A meeting point of attached threads.
pub struct Barrier(sync::Barrier);

impl Barrier {
    pub fn new(threads: usize) -> Self {
        Self(sync::Barrier::new(threads))
    }

    /// Waits, detached, until as many threads have come as the barrier is for.
    pub fn meet(&self, py: Python<'_>) {
        py.detach(|| self.0.wait());
    }

    /// [`meet`](Self::meet) for threads that are not attached.
    pub fn meet_detached(&self) {
        self.0.wait();
    }
}

/// A thread that is about to sleep in a lock.
#[derive(Default)]
pub struct Sleeper(sync::OnceLock<i32>);

impl Sleeper {
    pub const fn new() -> Self {
        Self(sync::OnceLock::new())
    }

    /// To be called by the thread itself, attached, right before it asks for the lock.
    pub fn announce(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: no preconditions.
        let id = unsafe { libc::gettid() };
        #[cfg(not(target_os = "linux"))]
        let id = 0;
        self.0.set(id).expect("a thread is announced once");
    }

    pub fn is_announced(&self) -> bool {
        self.0.get().is_some()
    }

    /// What the system calls the thread, which has been announced.
    pub fn id(&self) -> i32 {
        *self.0.get().expect("it was announced")
    }

    /// Whether the thread sleeps. It may look several times at the lock first, and the machine may keep it from that.
    #[cfg(target_os = "linux")]
    pub fn is_asleep(&self) -> bool {
        let state = |id| {
            let status = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
            // After the name, which may contain anything.
            status.rsplit_once(") ")?.1.chars().next()
        };
        self.0.get().and_then(state) == Some('S')
    }

    #[cfg(not(target_os = "linux"))]
    pub fn is_asleep(&self) -> bool {
        self.is_announced() && {
            thread::sleep(Duration::from_millis(100)); // Very likely.
            true
        }
    }
}

/// A thread started by Python. It does not keep the interpreter from ending.
pub struct PythonThread(Py<PyAny>);

impl PythonThread {
    /// Starts a thread that runs `code`, with `globals` as its global variables.
    pub fn start(code: &str, globals: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = globals.py();
        let module = PyModule::from_code(py, THREAD, c"suite_thread.py", c"suite_thread")?;
        let thread = module.getattr("Thread")?.call1((code, globals))?;
        thread.call_method0("start")?;
        Ok(Self(thread.unbind()))
    }

    /// Waits for the end of the thread; an exception that ended it is raised here.
    pub fn join(self, py: Python<'_>) -> PyResult<()> {
        self.0.bind(py).call_method0("finish").map(drop)
    }
}

const THREAD: &CStr = c"
import threading

class Thread(threading.Thread):
    def __init__(self, code, names):
        super().__init__(daemon=True)
        self.code, self.names, self.error = code, names, None

    def run(self):
        try:
            exec(self.code, self.names)
        except BaseException as error:
            self.error = error

    def finish(self):
        self.join()
        if self.error is not None:
            raise self.error
";

/// The command of a process with an interpreter like this one that calls a registered scenario on its main thread and then
/// shuts the interpreter down. An error or a panic of the scenario makes its exit code 1.
pub fn child(py: Python<'_>, name: &str) -> PyResult<Command> {
    scenario(name)?;
    let mut command = if env::var_os(EMBEDDED).is_some() {
        Command::new(env::current_exe()?)
    } else {
        let interpreter: String = py.import("sys")?.getattr("executable")?.extract()?;
        let mut command = Command::new(interpreter);
        command.args(["-X", "faulthandler", "-c", START]);
        command
    };
    command.args(["scenario", name]);
    Ok(command)
}

/// What an interpreter runs to become a child.
const START: &str = "import sys, pyo3_sync_suite; sys.exit(pyo3_sync_suite.main(sys.argv[1:]))";

/// How a child process ended, and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// `None` if it did not end in time and was killed.
    pub status: Option<ExitStatus>,
    /// Standard output and standard error; after a hang with the Python stacks of all its threads.
    pub output: String,
}

impl Finished {
    /// Panics unless the process ended by itself, with code 0.
    pub fn expect_success(&self) {
        let succeeded = self.status.is_some_and(|status| status.success());
        assert!(
            succeeded,
            "the child ended with {:?} and printed:\n{}",
            self.status, self.output
        );
    }
}

/// Runs `command`, detached, to its end, at most for `limit` (of a process that nothing slows down): less than the test's own, so that it is
/// the test that tells.
pub fn finish(py: Python<'_>, mut command: Command, limit: Duration) -> PyResult<Finished> {
    let mut output = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let status = match py.detach(|| wait(&mut child, limit * slowdown()))? {
        Some(status) => Some(status),
        None => {
            kill_with_stacks(py, &mut child)?;
            None
        }
    };
    Ok(Finished {
        status,
        output: everything_in(&mut output)?,
    })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    Ok(None)
}

/// Every child has `faulthandler` registered on the signal, where there is one: see `child.rs`.
fn kill_with_stacks(py: Python<'_>, child: &mut Child) -> PyResult<()> {
    if let Ok(signal) = py.import("signal")?.getattr("SIGUSR1") {
        py.import("os")?
            .call_method1("kill", (child.id(), signal))?;
        py.detach(|| thread::sleep(Duration::from_millis(300)));
    }
    py.detach(|| {
        child.kill()?;
        child.wait()
    })?;
    Ok(())
}

fn everything_in(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

//! Helpers for tests: attached threads, waiting for a condition, child processes.
//!
//! Tests are called attached. Functions that take `py` detach while they wait, so that the threads
//! that they wait for can attach.

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

/// The timeout of the `wait_until` functions.
///
/// It is shorter than the limit of a test, so that the test reports the timeout.
const TIMEOUT: Duration = Duration::from_secs(8);

/// For how long [`rounds`] begins new ones: far less than a test's limit.
const ROUNDS: Duration = Duration::from_secs(3);

const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Returns the sanitizer that this process runs under, as set by `cargo sanitize`.
pub fn sanitizer() -> Option<String> {
    env::var("PYO3_SYNC_SUITE_SANITIZER").ok()
}

/// Returns the factor for all timeouts: sanitizers and a busy machine slow the process down.
pub fn slowdown() -> u32 {
    let of_sanitizer = if sanitizer().is_some() { 8 } else { 1 };
    // Set by the runner, from the load of the machine.
    let of_load = env::var("PYO3_SYNC_SUITE_SLOWDOWN").ok();
    of_sanitizer * of_load.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Skips tests that measure memory if a sanitizer is active.
pub fn unless_sanitized(_: Python<'_>) -> Option<String> {
    let sanitizer = sanitizer()?;
    Some(format!("the {sanitizer} sanitizer uses memory of its own"))
}

/// Returns `true` if the interpreter was built without a GIL, whatever the extension targets.
pub fn is_free_threaded(py: Python<'_>) -> bool {
    let version: PyResult<String> = py
        .import("sys")
        .and_then(|sys| sys.getattr("version")?.extract());
    version
        .expect("an interpreter has a version")
        .contains("free-threading")
}

/// Skips tests on systems without `signal.setitimer`. Windows processes cannot signal themselves.
pub fn without_signals(py: Python<'_>) -> Option<String> {
    let has_signals = py
        .import("signal")
        .and_then(|signal| signal.hasattr("setitimer"));
    (!has_signals.unwrap_or(false)).then(|| "this system has no signals to send".to_owned())
}

/// Polls `condition`, attached, and detaches in between. Panics with `description` on a timeout.
pub fn wait_until(py: Python<'_>, description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < TIMEOUT * slowdown(),
            "timed out waiting until {description}"
        );
        py.detach(|| thread::sleep(POLL_INTERVAL));
    }
}

/// Polls `condition` as [`wait_until`] does, for detached threads.
pub fn wait_until_detached(description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < TIMEOUT * slowdown(),
            "timed out waiting until {description}"
        );
        thread::sleep(POLL_INTERVAL);
    }
}

/// Yields until `condition` holds, for rendezvous of threads that are not attached. Panics with
/// `description` if it does not come true.
///
/// For waits of microseconds: the sleeps of [`wait_until_detached`] would take most of the test's
/// time. It yields because the awaited thread may need the processor.
pub fn yield_until_detached(description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < TIMEOUT * slowdown(),
            "timed out waiting until {description}"
        );
        thread::yield_now();
    }
}

/// Keeps the processor busy for `time`, as code does that waits for no other thread.
pub fn work_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Numbers rounds of a test from 0 to `most`, as many as begin within [`ROUNDS`]. A round that
/// starts threads, or stops the world, takes long on a busy machine.
///
/// Threads that meet in every round cannot use it: each thread would end at another round.
pub fn rounds(most: usize) -> impl Iterator<Item = usize> {
    let start = Instant::now();
    (0..most).take_while(move |round| *round == 0 || start.elapsed() < ROUNDS)
}

/// Runs `body` on `count` attached threads, passing each its index.
///
/// # Panics
///
/// Resumes the panic of a thread after all threads have ended.
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

/// Runs two bodies concurrently, each on its own attached thread.
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

/// A barrier for attached threads.
pub struct Barrier(sync::Barrier);

impl Barrier {
    pub fn new(threads: usize) -> Self {
        Self(sync::Barrier::new(threads))
    }

    /// Waits, detached, until all threads have reached the barrier.
    pub fn meet(&self, py: Python<'_>) {
        py.detach(|| self.0.wait());
    }

    /// Waits as [`meet`](Self::meet) does, for detached threads.
    pub fn meet_detached(&self) {
        self.0.wait();
    }
}

/// A thread that is about to block on a lock.
#[derive(Default)]
pub struct Sleeper(sync::OnceLock<i32>);

impl Sleeper {
    pub const fn new() -> Self {
        Self(sync::OnceLock::new())
    }

    /// Records the calling thread, which is about to lock, attached.
    pub fn announce(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: `gettid` has no preconditions.
        let id = unsafe { libc::gettid() };
        #[cfg(not(target_os = "linux"))]
        let id = 0;
        self.0.set(id).expect("a thread is announced once");
    }

    pub fn is_announced(&self) -> bool {
        self.0.get().is_some()
    }

    /// Returns the system's id of the announced thread.
    pub fn id(&self) -> i32 {
        *self.0.get().expect("it was announced")
    }

    /// Returns `true` if the system reports the thread as asleep. The thread may spin first.
    #[cfg(target_os = "linux")]
    pub fn is_asleep(&self) -> bool {
        let state = |id| {
            let status = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
            // The state follows the name, which may contain any character.
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

/// A daemon thread started by Python.
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

    /// Waits for the thread to end. Returns the exception that ended it as an error.
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

/// Returns the command of a process that calls the registered scenario `name` and then finalizes.
///
/// The process uses the same interpreter and calls the scenario on its main thread. The exit code
/// is 1 if the scenario returns an error or panics.
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

/// The Python code of a child process.
const START: &str = "import sys, pyo3_sync_suite; sys.exit(pyo3_sync_suite.main(sys.argv[1:]))";

/// The exit status and the output of a child process.
#[derive(Debug)]
pub struct Finished {
    /// `None` if the process was killed after the timeout.
    pub status: Option<ExitStatus>,
    /// Standard output and standard error. Includes the Python stacks after a timeout.
    pub output: String,
}

impl Finished {
    /// Panics unless the process exited with code 0.
    pub fn expect_success(&self) {
        let succeeded = self.status.is_some_and(|status| status.success());
        assert!(
            succeeded,
            "the child ended with {:?} and printed:\n{}",
            self.status, self.output
        );
    }
}

/// Runs `command` to its end, detached, and kills it after `limit`, times [`slowdown`].
///
/// `limit` is shorter than the limit of the test, so that the test reports the timeout.
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
        thread::sleep(POLL_INTERVAL);
    }
    Ok(None)
}

/// Kills `child` after it has printed its Python stacks.
///
/// `child.rs` registers `faulthandler` for `SIGUSR1` on systems that have the signal.
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

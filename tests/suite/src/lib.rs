//! Behavior tests of pyo3-sync.
//!
//! `cargo test` runs the tests embedded in the system's Python. `cargo xtask test` runs them as an
//! extension module in real interpreters, with a GIL and free-threaded.
//!
//! There is one file per primitive. A test is a function `fn(Python<'_>) -> PyResult<()>`. It is
//! called attached, on the main thread of its own interpreter, and fails if it panics or returns an
//! error. Each file ends with a table:
//!
//! ```ignore
//! pub(crate) const MODULE: Module = Module {
//!     tests: &[
//!         test!(one_initialization),
//!         test!(waiter_is_not_starved).limit(30),
//!         test!(suspension_is_seen).only_free_threaded("a GIL build has no critical sections"),
//!         test!(survives_fork).unless(fork_is_missing),
//!     ],
//!     scenarios: &[scenario!(exits_while_threads_wait)],
//! };
//! ```
//!
//! A *scenario* runs in a child process that a test starts with [`harness::child`], to test exits,
//! crashes and forks. [`harness`] contains helpers for tests.

mod callback;
mod child;
mod collector;
mod compat;
mod condvar;
mod critical_section;
mod deadlock;
mod ext;
mod faults;
mod fork;
mod forms;
mod frozen;
mod ground;
mod interpreter;
mod membarrier;
mod model;
mod module_state;
mod mutex;
mod once;
mod once_lock;
mod panics;
mod pending_writer;
mod protected;
mod random;
mod regressions;
mod rwlock;
mod sections_at_exit;
mod shutdown;
mod signals;
mod single_interpreter;
mod snapshot;
mod stress;
mod thread_end;
mod unwinding;

pub mod harness;
pub mod registry;

use registry::Module;

pub use child::{EMBEDDED, embedded};

/// The tables of all test files. The compiler reports a table missing here as dead code.
const MODULES: &[Module] = &[
    ground::MODULE,
    once_lock::MODULE,
    once::MODULE,
    compat::MODULE,
    mutex::MODULE,
    critical_section::MODULE,
    protected::MODULE,
    rwlock::MODULE,
    condvar::MODULE,
    ext::MODULE,
    snapshot::MODULE,
    module_state::MODULE,
    membarrier::MODULE,
    collector::MODULE,
    deadlock::MODULE,
    fork::MODULE,
    forms::MODULE,
    signals::MODULE,
    shutdown::MODULE,
    single_interpreter::MODULE,
    regressions::MODULE,
    sections_at_exit::MODULE,
    thread_end::MODULE,
    pending_writer::MODULE,
    unwinding::MODULE,
    model::MODULE,
    stress::MODULE,
];

/// The extension module.
#[pyo3::pymodule(gil_used = false)]
fn pyo3_sync_suite(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    use pyo3::types::PyModuleMethods;

    module.add_function(pyo3::wrap_pyfunction!(child::main, module)?)
}

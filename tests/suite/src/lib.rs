//! Behaviour tests of pyo3-sync, written once and run twice: embedded in the machine's Python by `cargo test`, and as an
//! extension module inside real interpreters, GIL and free-threaded, by `cargo xtask test`.
//!
//! One file per primitive. A test is a function `fn(Python<'_>) -> PyResult<()>`, called attached, on the main thread of an
//! interpreter of its own; a panic or an error is a failure. Each file ends with its table:
//!
//! ```ignore
//! pub(crate) const MODULE: Module = Module {
//!     tests: &[
//!         test!(one_initialisation),
//!         test!(waiter_is_not_starved).limit(30),
//!         test!(suspension_is_seen).only_free_threaded("a GIL build has no critical sections"),
//!         test!(survives_fork).unless(fork_is_missing),
//!     ],
//!     scenarios: &[scenario!(exits_while_threads_wait)],
//! };
//! ```
//!
//! A **scenario** is what a child process does that a test starts with [`harness::child`]: exit, crash and fork behaviour.
//! [`harness`] has what tests need again and again.

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
mod stress;
mod thread_end;
mod unwinding;

pub mod harness;
pub mod registry;

use registry::Module;

pub use child::{EMBEDDED, embedded};

/// Every file of tests. The compiler reports a table that is missing here as dead code.
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

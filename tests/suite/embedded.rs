//! `cargo test`: the suite embedded in the machine's Python.
//!
//! This executable is both sides of `suite_runner`: started by cargo it is the parent, and it starts itself as the child.

use std::env;
use std::process::ExitCode;

use pyo3_sync_suite::EMBEDDED;
use suite_runner::Launcher;

fn main() -> ExitCode {
    if env::var_os(EMBEDDED).is_some() {
        return pyo3_sync_suite::embedded(env::args().skip(1).collect());
    }
    let this = env::current_exe().expect("this executable has a path");
    suite_runner::main(&Launcher::new("embedded", this).environment(EMBEDDED, "1"))
}

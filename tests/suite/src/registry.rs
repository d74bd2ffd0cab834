//! Tables of tests and scenarios.

use pyo3::prelude::*;

use crate::harness::is_free_threaded;

/// The function of a test or scenario, called attached on the main thread of the interpreter.
pub type Body = fn(Python<'_>) -> PyResult<()>;

/// The tests and scenarios of a file.
pub struct Module {
    pub tests: &'static [Test],
    pub scenarios: &'static [Scenario],
}

pub struct Test {
    path: &'static str,
    limit: u64,
    applies: Applies,
    pub(crate) body: Body,
}

/// The interpreters that a test runs in.
enum Applies {
    Always,
    FreeThreadedOnly(&'static str),
    GilOnly(&'static str),
    Unless(fn(Python<'_>) -> Option<String>),
}

/// The code that a [child process](crate::harness::child) runs.
pub struct Scenario {
    path: &'static str,
    pub(crate) body: Body,
}

impl Test {
    /// Creates a test. Use `test!(function)` instead.
    pub const fn new(path: &'static str, body: Body) -> Self {
        Self {
            path,
            limit: 10,
            applies: Applies::Always,
            body,
        }
    }

    /// Sets the timeout of the test, including the start of its process. The default is 10 seconds.
    pub const fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }

    /// Skips the test on GIL builds because of `reason`.
    pub const fn only_free_threaded(mut self, reason: &'static str) -> Self {
        self.applies = Applies::FreeThreadedOnly(reason);
        self
    }

    /// Skips the test on free-threaded builds because of `reason`.
    pub const fn only_with_gil(mut self, reason: &'static str) -> Self {
        self.applies = Applies::GilOnly(reason);
        self
    }

    /// Skips the test if `obstacle` returns a reason.
    pub const fn unless(mut self, obstacle: fn(Python<'_>) -> Option<String>) -> Self {
        self.applies = Applies::Unless(obstacle);
        self
    }

    /// Returns the name of the test, as `module::test`.
    pub(crate) fn name(&self) -> &'static str {
        without_crate(self.path)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.limit
    }

    /// Returns the reason to skip the test in this interpreter.
    pub(crate) fn obstacle(&self, py: Python<'_>) -> Option<String> {
        match self.applies {
            Applies::Always => None,
            Applies::FreeThreadedOnly(reason) => (!is_free_threaded(py)).then(|| reason.to_owned()),
            Applies::GilOnly(reason) => is_free_threaded(py).then(|| reason.to_owned()),
            Applies::Unless(obstacle) => obstacle(py),
        }
    }
}

impl Scenario {
    /// Creates a scenario. Use `scenario!(function)` instead.
    pub const fn new(path: &'static str, body: Body) -> Self {
        Self { path, body }
    }

    /// Returns the name of the scenario, as `module::scenario`.
    pub(crate) fn name(&self) -> &'static str {
        without_crate(self.path)
    }
}

fn without_crate(path: &'static str) -> &'static str {
    path.split_once("::").map_or(path, |(_, rest)| rest)
}

/// Creates an entry of [`Module::tests`] from a function.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::registry::Test::new(
            concat!(module_path!(), "::", stringify!($function)),
            $function,
        )
    };
}

/// Creates an entry of [`Module::scenarios`] from a function.
#[macro_export]
macro_rules! scenario {
    ($function:ident) => {
        $crate::registry::Scenario::new(
            concat!(module_path!(), "::", stringify!($function)),
            $function,
        )
    };
}

//! The tables that tests and scenarios are registered in.

use pyo3::prelude::*;

use crate::harness::is_free_threaded;

/// Called attached, on the main thread of the interpreter.
pub type Body = fn(Python<'_>) -> PyResult<()>;

/// What a file of tests contributes.
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

/// Where a test applies.
enum Applies {
    Always,
    FreeThreadedOnly(&'static str),
    GilOnly(&'static str),
    Unless(fn(Python<'_>) -> Option<String>),
}

/// What a child process does: see [`crate::harness::child`].
pub struct Scenario {
    path: &'static str,
    pub(crate) body: Body,
}

impl Test {
    /// Use `test!(function)`.
    pub const fn new(path: &'static str, body: Body) -> Self {
        Self {
            path,
            limit: 10,
            applies: Applies::Always,
            body,
        }
    }

    /// The time after which the test counts as hung, in seconds, the start of its process included; 10 unless told.
    pub const fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }

    /// Not on GIL builds; `reason` says why.
    pub const fn only_free_threaded(mut self, reason: &'static str) -> Self {
        self.applies = Applies::FreeThreadedOnly(reason);
        self
    }

    /// Not on free-threaded builds; `reason` says why.
    pub const fn only_with_gil(mut self, reason: &'static str) -> Self {
        self.applies = Applies::GilOnly(reason);
        self
    }

    /// Not where `obstacle` gives a reason.
    pub const fn unless(mut self, obstacle: fn(Python<'_>) -> Option<String>) -> Self {
        self.applies = Applies::Unless(obstacle);
        self
    }

    /// `module::test`
    pub(crate) fn name(&self) -> &'static str {
        without_crate(self.path)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.limit
    }

    /// Why the test cannot run in this interpreter.
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
    /// Use `scenario!(function)`.
    pub const fn new(path: &'static str, body: Body) -> Self {
        Self { path, body }
    }

    /// `module::scenario`
    pub(crate) fn name(&self) -> &'static str {
        without_crate(self.path)
    }
}

fn without_crate(path: &'static str) -> &'static str {
    path.split_once("::").map_or(path, |(_, rest)| rest)
}

/// `test!(function)`: an entry for [`Module::tests`], to which `.limit(seconds)` and conditions may be added.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::registry::Test::new(
            concat!(module_path!(), "::", stringify!($function)),
            $function,
        )
    };
}

/// `scenario!(function)`: an entry for [`Module::scenarios`].
#[macro_export]
macro_rules! scenario {
    ($function:ident) => {
        $crate::registry::Scenario::new(
            concat!(module_path!(), "::", stringify!($function)),
            $function,
        )
    };
}

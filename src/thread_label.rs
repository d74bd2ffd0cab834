//! Thread names in messages.

use std::fmt;

use pyo3::prelude::*;

use crate::wait::{self, ThreadId, ident, loaded_module};

/// The Python or Rust name of a thread, and the id that `faulthandler` prints.
pub(crate) struct ThreadLabel {
    name: Option<String>,
    ident: Option<u64>,
}

impl ThreadLabel {
    /// Creates the label of a thread.
    pub(crate) fn of(py: Python<'_>, thread: ThreadId) -> Self {
        let known = wait::known(thread);
        let ident = known.as_ref().and_then(|known| known.ident);
        let python_name = ident.and_then(|ident| python_name(py, ident).ok());
        let rust_name = || known.as_ref()?.rust_name().map(str::to_owned);
        ThreadLabel {
            name: python_name.or_else(rust_name),
            ident,
        }
    }

    /// Creates the label of a thread from its [OS id](ident). The thread need not be registered.
    pub(crate) fn of_number(py: Python<'_>, os_id: u64) -> Self {
        let ident = ident::python_thread_id(os_id);
        if let Some(thread) = ident.and_then(wait::with_ident) {
            return Self::of(py, thread);
        }
        ThreadLabel {
            name: ident.and_then(|ident| python_name(py, ident).ok()),
            ident,
        }
    }
}

/// Returns the `threading` name of a thread.
///
/// Reads private attributes only: calling Python code would run signal handlers, whose exceptions
/// would be lost here.
fn python_name(py: Python<'_>, ident: u64) -> PyResult<String> {
    let threads = loaded_module(py, "threading")?.getattr("_active")?;
    threads.get_item(ident)?.getattr("_name")?.extract()
}

impl fmt::Display for ThreadLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name.as_deref().unwrap_or("<unnamed>"))?;
        match self.ident {
            Some(ident) => write!(f, " ({ident:#018x})"),
            None => Ok(()),
        }
    }
}

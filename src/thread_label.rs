//! Thread names in messages.

use std::fmt;

use pyo3::prelude::*;

use crate::{
    python::loaded_module,
    wait::{self, ThreadId, ThreadRef, ident},
};

/// The Python or Rust name of a thread, and the id that `faulthandler` prints.
pub(crate) struct ThreadLabel {
    name: Option<String>,
    ident: Option<u64>,
}

impl ThreadLabel {
    pub(crate) fn of(py: Python<'_>, thread: ThreadRef) -> Self {
        match thread {
            ThreadRef::Registered(thread) => Self::of_registered(py, thread),
            ThreadRef::OsId(os_id) => {
                let ident = ident::python_thread_id(os_id);
                // It may have registered since.
                if let Some(thread) = ident.and_then(wait::with_ident) {
                    return Self::of_registered(py, thread);
                }
                ThreadLabel {
                    name: ident.and_then(|ident| python_name(py, ident).ok()),
                    ident,
                }
            }
        }
    }

    fn of_registered(py: Python<'_>, thread: ThreadId) -> Self {
        let info = wait::thread_info(thread);
        let ident = info.as_ref().and_then(|info| info.ident);
        let python_name = ident.and_then(|ident| python_name(py, ident).ok());
        let rust_name = || info.as_ref()?.rust_name().map(str::to_owned);
        ThreadLabel {
            name: python_name.or_else(rust_name),
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

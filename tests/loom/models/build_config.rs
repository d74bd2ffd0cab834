//! The double of `src/build_config.rs`.

#![allow(non_snake_case)]

pub(crate) use stand_in::pyo3::ffi::{Py_IsFinalizing, PyEval_RestoreThread};

pub(crate) const FREE_THREADED: bool = cfg!(not(feature = "gil"));

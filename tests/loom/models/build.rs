//! The double of `src/python/build.rs`.

#![allow(non_snake_case)]

pub(crate) use stand_in::pyo3::ffi::{Py_IsFinalizing, PyEval_RestoreThread};

pub(crate) type IsMainThread = unsafe extern "C" fn() -> i32;
pub(crate) const CAN_LOOK_UP_SYMBOLS: bool = false;
pub(crate) fn look_up_is_main_thread() -> Option<IsMainThread> {
    None
}

pub(crate) const FREE_THREADED: bool = cfg!(not(feature = "gil"));

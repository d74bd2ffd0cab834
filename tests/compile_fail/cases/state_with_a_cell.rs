//! A state is shared by all threads: what changes in it needs a lock or an atomic.
//@ error: E0277

use pyo3_sync::{ModuleData, ModuleState};

pub struct Number {
    #[cfg(feature = "fail")]
    pub number: std::cell::Cell<i32>,
    #[cfg(not(feature = "fail"))]
    pub number: std::sync::atomic::AtomicI32,
}

impl ModuleData for Number {}

pub static STATE: ModuleState<Number> = ModuleState::new();

//! A state is dropped by whichever thread drops its module.
//@ error: E0277

use pyo3_sync::{ModuleData, ModuleState};

pub struct Number {
    #[cfg(feature = "fail")]
    pub number: std::sync::MutexGuard<'static, i32>,
    #[cfg(not(feature = "fail"))]
    pub number: std::sync::Arc<i32>,
}

impl ModuleData for Number {}

pub static STATE: ModuleState<Number> = ModuleState::new();

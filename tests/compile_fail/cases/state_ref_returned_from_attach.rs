//! A reference to a state must not outlive its token: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::{ModuleData, ModuleState};

pub struct Number(pub i32);
impl ModuleData for Number {}

static STATE: ModuleState<Number> = ModuleState::new();

pub fn case() -> Option<i32> {
    #[cfg(feature = "fail")]
    return Python::attach(|py| STATE.find(py).ok()).map(|state| state.0);
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| STATE.find(py).ok().map(|state| state.0));
}

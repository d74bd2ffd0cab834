//! A state goes with its module, so it may be looked at only as long as there is a reference that keeps it: a plain `&'static` would
//! dangle when the module is cleared.
//@ error: E0515

use pyo3::{PyResult, Python};
use pyo3_sync::{ModuleData, ModuleState};

pub struct Number(pub i32);
impl ModuleData for Number {}

static STATE: ModuleState<Number> = ModuleState::new();

#[cfg(feature = "fail")]
pub fn case(py: Python<'_>) -> PyResult<&i32> {
    let state = STATE.find(py)?;
    Ok(&state.0)
}

#[cfg(not(feature = "fail"))]
pub fn case(py: Python<'_>) -> PyResult<i32> {
    let state = STATE.find(py)?;
    Ok(state.0)
}

//! Whoever drops the last reference to a state drops the state, and must be attached. What it leads to can be lent.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::{ModuleData, StateRef};

pub struct Number(pub i32);
impl ModuleData for Number {}

pub fn case(py: Python<'_>, state: StateRef<'_, Number>) -> i32 {
    #[cfg(feature = "fail")]
    let data = state;
    #[cfg(not(feature = "fail"))]
    let data = &*state;
    py.detach(move || data.0)
}

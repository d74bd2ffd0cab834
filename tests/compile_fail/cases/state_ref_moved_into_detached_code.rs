//! Whoever drops the last reference to a state drops the state, and must be attached. What it leads to can be lent.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::{State, StateRef};

pub struct Number(pub i32);
impl State for Number {}

pub fn case(py: Python<'_>, state: StateRef<'_, Number>) -> i32 {
    #[cfg(feature = "fail")]
    let data = state;
    #[cfg(not(feature = "fail"))]
    let data = &*state;
    py.detach(move || data.0)
}

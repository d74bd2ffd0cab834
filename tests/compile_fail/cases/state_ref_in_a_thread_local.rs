//! A reference to a state must not outlive its token: whoever drops the last one drops the state, and must be attached.
//@ error: E0521

use std::cell::RefCell;

use pyo3::Python;
use pyo3_sync::{ModuleData, ModuleState, StateRef};

pub struct Number(pub i32);
impl ModuleData for Number {}

static STATE: ModuleState<Number> = ModuleState::new();

thread_local! {
    static KEPT: RefCell<Option<StateRef<'static, Number>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>) {
    let state = STATE.find(py).ok();
    #[cfg(not(feature = "fail"))]
    let state = state.and(None);
    KEPT.set(state);
}

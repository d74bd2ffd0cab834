//! A reference to a state stands in a slot of the thread that has it.
//@ error: E0277

use pyo3_sync::{ModuleData, StateRef};

pub struct Number(pub i32);
impl ModuleData for Number {}

fn sends<T: Send>(_: T) {}

pub fn case(state: StateRef<'_, Number>) {
    #[cfg(feature = "fail")]
    sends(state);
    #[cfg(not(feature = "fail"))]
    sends(state.0);
}

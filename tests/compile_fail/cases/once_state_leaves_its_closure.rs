//! What is told to the closure is told for as long as it runs.
//@ error: E0521
//@ places: 3

use pyo3::Python;
use pyo3_sync::{PyOnce, PyOnceState, Wait};

pub fn case(py: Python<'_>, once: &PyOnce) -> bool {
    #[cfg(feature = "fail")]
    type Kept<'a> = &'a PyOnceState;
    #[cfg(not(feature = "fail"))]
    type Kept = bool;
    let mut kept: [Option<Kept>; 3] = [const { None }; 3];
    let [one, two, three] = &mut kept;
    once.call_once_force(py, |state| *one = Some(of(state)));
    let _ = once.call_once_force_with(py, Wait::new(), |state| *two = Some(of(state)));
    once.call_once_force_py_attached(py, |state| *three = Some(of(state)));
    kept.iter().any(Option::is_some)
}

#[cfg(feature = "fail")]
fn of(state: &PyOnceState) -> &PyOnceState {
    state
}
#[cfg(not(feature = "fail"))]
fn of(state: &PyOnceState) -> bool {
    state.is_poisoned()
}

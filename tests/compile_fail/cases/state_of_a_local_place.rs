//! The object in the module's dictionary refers to the `ModuleState`, for as long as the module lives.
//@ error: E0597

use pyo3::prelude::*;
use pyo3_sync::{ModuleData, ModuleState};

pub struct Number(pub i32);
impl ModuleData for Number {}

pub fn case(module: &Bound<'_, PyModule>) -> PyResult<i32> {
    #[cfg(feature = "fail")]
    let place = ModuleState::new();
    #[cfg(not(feature = "fail"))]
    static PLACE: ModuleState<Number> = ModuleState::new();
    #[cfg(not(feature = "fail"))]
    let place = &PLACE;
    let state = place.init(module, || Ok(Number(1)))?;
    Ok(state.0)
}

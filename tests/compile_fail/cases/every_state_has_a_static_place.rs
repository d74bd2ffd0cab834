//! The object in the module's dictionary refers to the `ModuleState`, for as long as the module lives.
//@ error: E0521
//@ places: 6

use pyo3::{prelude::*, types::PyType};
use pyo3_sync::{ModuleData, ModuleState};

pub struct Number(pub i32);
impl ModuleData for Number {}

macro_rules! ways {
    ($($name:ident = |$state:ident, $py:ident, $module:ident, $class:ident| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name(
                $state: &ModuleState<Number>,
                ($py, $module, $class): (Python<'_>, &Bound<'_, PyModule>, &Bound<'_, PyType>),
            ) -> bool {
                let _ = ($py, $module, $class);
                $way
            }
            #[cfg(not(feature = "fail"))]
            pub fn $name(
                $state: &'static ModuleState<Number>,
                ($py, $module, $class): (Python<'_>, &Bound<'_, PyModule>, &Bound<'_, PyType>),
            ) -> bool {
                let _ = ($py, $module, $class);
                $way
            }
        )*
    };
}

ways! {
    init = |state, py, module, class| state.init(module, || Ok(Number(1))).is_ok();
    get_or_try_init = |state, py, module, class| state.get_or_try_init(module, || Ok(Number(1))).is_ok();
    get = |state, py, module, class| state.get(module).is_ok();
    find = |state, py, module, class| state.find(py).is_ok();
    of_type = |state, py, module, class| state.of_type(class).is_ok();
    share = |state, py, module, class| state.share(module, module).is_ok();
}

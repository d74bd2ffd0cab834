//! A reference to a state must not outlive its token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 6

use pyo3::{prelude::*, types::PyType};
use pyo3_sync::{ModuleData, ModuleState, StateHandle, StateRef};

pub struct Number(pub i32);
impl ModuleData for Number {}

static STATE: ModuleState<Number> = ModuleState::new();

macro_rules! ways {
    ($($name:ident = |$from:ident: $type:ty| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name<'py>($from: &$type) -> PyResult<StateRef<'static, Number>> {
                $way
            }
            #[cfg(not(feature = "fail"))]
            pub fn $name<'py>($from: &$type) -> PyResult<StateRef<'py, Number>> {
                $way
            }
        )*
    };
}

ways! {
    init = |module: Bound<'py, PyModule>| STATE.init(module, || Ok(Number(1)));
    get_or_try_init = |module: Bound<'py, PyModule>| STATE.get_or_try_init(module, || Ok(Number(1)));
    get = |module: Bound<'py, PyModule>| STATE.get(module);
    find = |py: Python<'py>| STATE.find(*py);
    of_type = |class: Bound<'py, PyType>| STATE.of_type(class);
    handle = |handle: (StateHandle<Number>, Python<'py>)| handle.0.get(handle.1);
}

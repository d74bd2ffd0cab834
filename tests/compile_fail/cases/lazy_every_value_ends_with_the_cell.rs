//! The value is borrowed from what makes it and not from the token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 8

use pyo3::{Py, PyAny, Python};
use pyo3_sync::{PyImport, PyLazy, PyTryLazy, Wait};

macro_rules! ways {
    ($($name:ident: $cell:ty => $value:ty = |$this:ident, $py:ident| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name<'cell, 'py>($this: &'cell $cell, $py: Python<'py>) -> Option<&'py $value> {
                let _ = $py;
                $way
            }
            #[cfg(not(feature = "fail"))]
            pub fn $name<'cell, 'py>($this: &'cell $cell, $py: Python<'py>) -> Option<&'cell $value> {
                let _ = $py;
                $way
            }
        )*
    };
}

ways! {
    get: PyLazy<i32> => i32 = |cell, py| Some(cell.get(py));
    get_checked: PyLazy<i32> => i32 = |cell, py| cell.get_checked(py).ok();
    get_with: PyLazy<i32> => i32 = |cell, py| cell.get_with(py, Wait::new()).ok();
    peek: PyLazy<i32> => i32 = |cell, py| cell.peek();
    try_get: PyTryLazy<i32> => i32 = |cell, py| cell.get(py).ok();
    try_get_with: PyTryLazy<i32> => i32 = |cell, py| cell.get_with(py, Wait::new()).ok();
    try_peek: PyTryLazy<i32> => i32 = |cell, py| cell.peek();
    import_peek: PyImport => Py<PyAny> = |cell, py| cell.peek();
}

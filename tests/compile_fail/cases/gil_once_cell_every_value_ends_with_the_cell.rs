//! The value is borrowed from the cell and not from the token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 3

use pyo3::Python;
use pyo3_sync::compat::GILOnceCell;

macro_rules! ways {
    ($($name:ident: $cell:ty => $value:ty = |$this:ident, $py:ident| $way:expr;)*) => {
        $(
            #[cfg(feature = "fail")]
            pub fn $name<'cell, 'py>($this: &'cell $cell, $py: Python<'py>) -> Option<&'py $value> {
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
    get: GILOnceCell<i32> => i32 = |cell, py| cell.get(py);
    get_or_init: GILOnceCell<i32> => i32 = |cell, py| Some(cell.get_or_init(py, || 0));
    get_or_try_init: GILOnceCell<i32> => i32 = |cell, py| cell.get_or_try_init(py, || Err(())).ok();
}

//! The value is borrowed from the cell and not from the token, however it was come by.
//@ error: lifetime may not live long enough
//@ places: 11

use pyo3::Python;
use pyo3_sync::{PyOnceLock, Wait};

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
    get: PyOnceLock<i32> => i32 = |cell, py| cell.get(py);
    peek: PyOnceLock<i32> => i32 = |cell, py| cell.peek();
    get_or_init: PyOnceLock<i32> => i32 = |cell, py| Some(cell.get_or_init(py, || 0));
    get_or_try_init: PyOnceLock<i32> => i32 = |cell, py| cell.get_or_try_init(py, || Err(())).ok();
    get_or_try_init_py: PyOnceLock<i32> => i32 = |cell, py| cell.get_or_try_init_py(py, || Ok(0)).ok();
    get_or_init_checked: PyOnceLock<i32> => i32 = |cell, py| cell.get_or_init_checked(py, || 0).ok();
    get_or_init_py_attached: PyOnceLock<i32> => i32 = |cell, py| Some(cell.get_or_init_py_attached(py, || 0));
    try_insert: PyOnceLock<i32> => i32 = |cell, py| cell.try_insert(py, 0).ok();
    there_already: PyOnceLock<i32> => i32 = |cell, py| cell.try_insert(py, 0).err().map(|(there, _)| there);
    wait: PyOnceLock<i32> => i32 = |cell, py| Some(cell.wait(py));
    wait_with: PyOnceLock<i32> => i32 = |cell, py| cell.wait_with(py, Wait::new()).ok();
}

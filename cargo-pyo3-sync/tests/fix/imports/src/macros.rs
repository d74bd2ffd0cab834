use pyo3::prelude::*;

macro_rules! cell {
    ($name:ident, $type:ty) => {
        static $name: pyo3::sync::GILOnceCell<$type> = pyo3::sync::GILOnceCell::new();
    };
}

macro_rules! import {
    ($py:expr, $module:expr, $attribute:expr) => {{
        use pyo3::{sync::GILOnceCell, types::PyType};
        static TYPE: GILOnceCell<Py<PyType>> = GILOnceCell::new();
        TYPE.import($py, $module, $attribute)
    }};
}

macro_rules! of_this_crate {
    () => {
        $crate::reexported::GILOnceCell::new()
    };
}

cell!(A, u8);

static B: crate::reexported::GILOnceCell<u8> = of_this_crate!();

fn fraction(py: Python<'_>) -> PyResult<bool> {
    let _ = (A.get(py), B.get(py));
    import!(py, "fractions", "Fraction")?.is_truthy()
}

static A: pyo3::sync::GILOnceCell<u8> = pyo3::sync::GILOnceCell::new();
static B: ::pyo3::sync::GILOnceCell<u8> = ::pyo3::sync::GILOnceCell::<u8>::new();

thread_local! {
    static C: ::pyo3::sync::GILOnceCell<u8> = const { pyo3::sync::GILOnceCell::new() };
}

fn all(py: pyo3::Python<'_>) -> [Option<u8>; 3] {
    [A.get(py).copied(), B.get(py).copied(), C.with(|cell| cell.get(py).copied())]
}

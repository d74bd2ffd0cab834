use {
    pyo3::{sync::GILOnceCell, Python},
    std::fmt::Debug,
};

static A: GILOnceCell<u8> = GILOnceCell::new();

fn a(py: Python<'_>) -> impl Debug {
    A.get(py).copied()
}

//@ pyo3 0.28.0
#[pyo3::pymodule]
mod extension { //~ gil-declaration
    #[pymodule_export]
    use super::other;

    #[pymodule]
    mod inner {}
}

#[pyo3::pymodule]
mod other {}

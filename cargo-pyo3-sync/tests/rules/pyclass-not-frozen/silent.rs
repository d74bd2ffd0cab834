use pyo3::prelude::*;

#[pyclass(frozen)]
struct Text(String);

#[pyclass]
enum Shape {
    Circle { radius: f64 },
}

// Nothing but `__clear__` borrows it, which a frozen class could not have.
#[pyclass]
struct Cache {
    value: Option<Py<PyAny>>,
}

#[pymethods]
impl Cache {
    fn __clear__(&mut self) {
        self.value = None;
    }
}

#[pyclass]
struct Other {
    value: u64,
}

fn change(other: &Bound<'_, Other>) {
    other.borrow_mut().value = 1;
}

// A subclass that is not frozen has a base that is not.
#[pyclass(subclass)]
struct Base;

// pyo3-sync: allow(pyclass-mut-self) only the thread that made it has it
#[pyclass(extends = Base)]
struct Derived {
    value: u64,
}

#[pymethods]
impl Derived {
    fn set(&mut self, value: u64) {
        self.value = value;
    }
}

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

#[pyclass]
struct InAVariable {
    value: u64,
}

#[pyclass]
struct InAMacro {
    value: u64,
}

#[pyclass(frozen)]
struct Holder {
    variable: Py<InAVariable>,
    mentioned: Py<InAMacro>,
}

#[pymethods]
impl Holder {
    fn variable(&self, py: Python<'_>) {
        let object = self.variable.bind(py);
        object.borrow_mut().value = 1;
    }

    fn mentioned(&self, py: Python<'_>) -> String {
        format!("{}", self.mentioned.borrow_mut(py).value)
    }
}

#[pyclass]
struct InATest {
    value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(object: &Bound<'_, PyAny>) {
        let object = object.cast::<InATest>().unwrap();
        assert!(object.borrow_mut().value == 1);
    }
}

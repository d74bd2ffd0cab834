//! Each is borrowed mutably in another way.

use pyo3::{prelude::*, types::PyDict};

#[pyclass]
struct ByMethod(u8);

#[pymethods]
impl ByMethod {
    fn add(&mut self) {
        self.0 += 1;
    }
}

#[pyclass]
struct ByReceiver(u8);

#[pymethods]
impl ByReceiver {
    fn add(mut slf: PyRefMut<'_, Self>) {
        slf.0 += 1;
    }
}

#[pyclass]
struct BySetter {
    #[pyo3(get, set)]
    value: u8,
}

#[pyclass(get_all, set_all)]
struct BySetters {
    value: u8,
}

#[pyclass]
struct ByProperty(u8);

#[pymethods]
impl ByProperty {
    #[setter]
    fn set_value(&mut self, value: u8) {
        self.0 = value;
    }
}

#[pyclass]
struct ByParameter(u8);

#[pyfunction]
fn add(one: &mut ByParameter, several: Vec<PyRefMut<'_, ByElement>>) {
    one.0 += 1;
    for mut element in several {
        element.0 += 1;
    }
}

#[pyclass]
struct ByElement(u8);

#[pyclass]
struct ByItself(u8);

#[pymethods]
impl ByItself {
    fn add(slf: &Bound<'_, Self>) {
        slf.borrow_mut().0 += 1;
    }
}

#[pyclass]
struct ByExtraction(u8);

fn extract(object: &Bound<'_, PyAny>) -> PyResult<()> {
    object.extract::<PyRefMut<'_, ByExtraction>>()?.0 += 1;
    Ok(())
}

#[pyclass]
struct ByAnnotation(u8);

fn annotate(table: &Bound<'_, PyDict>) -> PyResult<()> {
    for (_, value) in table {
        let mut object: PyRefMut<'_, ByAnnotation> = value.extract()?;
        object.0 += 1;
    }
    Ok(())
}

#[pyclass]
struct ByAlias(u8);

type Guard<'py> = PyRefMut<'py, ByAlias>;

fn alias(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut guard: Guard<'_> = object.extract()?;
    guard.0 += 1;
    Ok(())
}

#[pyclass]
struct ByField(u8);

#[pyclass]
struct ByVariable(u8);

#[pyclass]
struct ByMacro(u8);

#[pyclass]
struct ByClosure(u8);

/// Frozen, and what it holds is not.
#[pyclass]
struct Holder {
    field: Py<ByField>,
    variable: Py<ByVariable>,
    in_macro: Py<ByMacro>,
    all: Vec<Py<ByClosure>>,
}

#[pymethods]
impl Holder {
    fn field(&self, py: Python<'_>) {
        self.field.borrow_mut(py).0 += 1;
    }

    fn variable(&self, py: Python<'_>) {
        let object = self.variable.bind(py);
        let mut guard = object.borrow_mut();
        guard.0 += 1;
    }

    fn in_macro(&self, py: Python<'_>) -> String {
        format!("{}", self.in_macro.borrow_mut(py).0)
    }

    fn all(&self, py: Python<'_>) {
        self.all.iter().for_each(|object| object.borrow_mut(py).0 += 1);
    }
}

#[pyclass]
struct ByTry(u8);

fn attempt(object: &Py<ByTry>, py: Python<'_>) -> PyResult<()> {
    let object = object.clone_ref(py).into_bound(py);
    if let Ok(mut guard) = object.try_borrow_mut() {
        guard.0 += 1;
    }
    Ok(())
}

#[pyclass]
struct ByCast(u8);

fn cast(object: &Bound<'_, PyAny>) -> PyResult<()> {
    object.cast::<ByCast>()?.borrow_mut().0 += 1;
    Ok(())
}

/// A base must be as its subclasses are.
#[pyclass(subclass)]
struct BaseOfMutable(u8);

#[pyclass(extends = BaseOfMutable)]
struct DerivedAndMutable(u8);

#[pymethods]
impl DerivedAndMutable {
    fn add(&mut self) {
        self.0 += 1;
    }
}

#[pyclass(subclass)]
struct MutableBase(u8);

#[pymethods]
impl MutableBase {
    fn add(&mut self) {
        self.0 += 1;
    }
}

#[pyclass(extends = MutableBase)]
struct DerivedOfMutable;

#[pymethods]
impl DerivedOfMutable {
    fn base(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().0
    }
}

#[pyclass]
struct ByTest(u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes() {
        Python::attach(|py| {
            let object = Bound::new(py, ByTest(1)).unwrap();
            object.borrow_mut().0 += 1;
            assert_eq!(object.borrow().0, 2);
        });
    }
}

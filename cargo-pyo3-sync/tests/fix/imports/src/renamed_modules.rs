use pyo3 as python;
use pyo3::sync as locks;

static A: locks::GILOnceCell<u8> = locks::GILOnceCell::new();
static B: python::sync::GILOnceCell<u8> = python::sync::GILOnceCell::new();

mod inner {
    use super::locks::GILOnceCell;

    pub(super) static C: GILOnceCell<u8> = GILOnceCell::new();
}

fn sum(py: python::Python<'_>, lock: &std::sync::Mutex<u8>) -> Option<u8> {
    drop(locks::MutexExt::lock_py_attached(lock, py));
    Some(A.get(py)? + B.get(py)? + inner::C.get(py)?)
}

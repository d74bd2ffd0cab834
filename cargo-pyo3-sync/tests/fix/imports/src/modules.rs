use pyo3::sync::{self, GILOnceCell};
use pyo3::Python;

static A: sync::GILOnceCell<u8> = sync::GILOnceCell::new();
static B: GILOnceCell<u8> = GILOnceCell::new();

mod second {
    use pyo3::sync;

    pub(super) static C: sync::GILOnceCell<u8> = sync::GILOnceCell::new();

    pub(super) fn lock<'m>(py: super::Python<'_>, lock: &'m std::sync::Mutex<u8>) -> std::sync::MutexGuard<'m, u8> {
        sync::MutexExt::lock_py_attached(lock, py).unwrap()
    }
}

fn sum(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> Option<u8> {
    let guard = sync::MutexExt::lock_py_attached(lock, py).unwrap();
    drop(guard);
    Some(A.get(py)? + B.get(py)? + second::C.get(py)? + *second::lock(py, lock))
}

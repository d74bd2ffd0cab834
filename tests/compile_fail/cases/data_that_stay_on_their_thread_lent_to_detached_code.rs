//! Detached code may as well be another thread's, so that what it is lent must be `Send`, also when it comes out of a
//! guard.
//@ error: E0277

#[cfg(feature = "fail")]
use std::rc::Rc;
#[cfg(not(feature = "fail"))]
use std::sync::Arc as Rc;

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: &PyMutex<Rc<i32>>) {
    let mut guard = mutex.lock(py);
    let data = &mut *guard;
    py.detach(|| drop(data.clone()));
}

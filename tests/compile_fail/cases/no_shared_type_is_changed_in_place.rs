//! What the methods give that do not lock belongs to whoever has the whole for himself.
//@ error: E0596
//@ places: 10

use pyo3_sync::{
    PyLazy, PyMutex, PyOnceLock, PyProtected, PyRwLock, PySnapshot, PyTryLazy, compat::GILOnceCell,
};

#[cfg(feature = "fail")]
macro_rules! reference {
    ($type:ty) => {
        &$type
    };
}
#[cfg(not(feature = "fail"))]
macro_rules! reference {
    ($type:ty) => {
        &mut $type
    };
}

#[allow(clippy::too_many_arguments)]
pub fn case(
    once_lock: reference!(PyOnceLock<i32>),
    gil_once_cell: reference!(GILOnceCell<i32>),
    lazy: reference!(PyLazy<i32>),
    try_lazy: reference!(PyTryLazy<i32>),
    mutex: reference!(PyMutex<i32>),
    rwlock: reference!(PyRwLock<i32>),
    protected: reference!(PyProtected<i32>),
    snapshot: reference!(PySnapshot<i32>),
) {
    once_lock.get_mut();
    once_lock.take();
    gil_once_cell.get_mut();
    gil_once_cell.take();
    lazy.get_mut();
    try_lazy.get_mut();
    mutex.get_mut();
    rwlock.get_mut();
    protected.get_mut();
    snapshot.get_mut();
}

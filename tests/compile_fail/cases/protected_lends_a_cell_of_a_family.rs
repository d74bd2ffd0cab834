//! `with` lends `&T` to several threads at once. The cells of a thread-local family of `cell_family` are as
//! `qcell::TLCell`: `Send`, not `Sync`, and every thread may have an owner that turns `&FooCell<T>` into `&mut T`.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::PyProtected;

cell_family::define!(pub type FooFamily: FooCellOwner for FooCell<T>);

pub fn case(py: Python<'_>, cell: &PyProtected<FooCell<Vec<i32>>>) {
    // Every thread has one.
    let mut owner = FooCellOwner::new();
    #[cfg(feature = "fail")]
    cell.with(py, |data| {
        let first = &data.get_mut(&mut owner)[0];
        py.detach(|| std::thread::yield_now()); // Here another thread does the same, and pushes.
        let _ = *first;
    });
    #[cfg(not(feature = "fail"))]
    cell.with_mut(py, |data| {
        let first = &data.get_mut(&mut owner)[0];
        py.detach(std::thread::yield_now); // Here another thread finds it borrowed.
        let _ = *first;
    });
}

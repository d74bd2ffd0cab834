//! `with` lends `&T` to several threads at once: to one that is inside, and to those that were inside when they
//! detached. `qcell::TLCell` is `Send`, and not `Sync`, because each thread may have an owner of its own, with which
//! it turns `&TLCell<T>` into `&mut T`. Two threads, one of them suspended, would have two `&mut` to one value.
//! `GILProtected` allowed it. Mutably borrowed, the cell is one thread's until the borrow ends.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::PyProtected;
use qcell::{TLCell, TLCellOwner};

pub struct Marker;

pub fn case(py: Python<'_>, cell: &PyProtected<TLCell<Marker, Vec<i32>>>) {
    // Every thread has one.
    let mut owner = TLCellOwner::<Marker>::new();
    #[cfg(feature = "fail")]
    cell.with(py, |data| {
        let first = &data.rw(&mut owner)[0];
        py.detach(|| std::thread::yield_now()); // Here another thread does the same, and pushes.
        let _ = *first;
    });
    #[cfg(not(feature = "fail"))]
    cell.with_mut(py, |data| {
        let first = &data.rw(&mut owner)[0];
        py.detach(std::thread::yield_now); // Here another thread finds it borrowed.
        let _ = *first;
    });
}

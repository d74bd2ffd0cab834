//! A value that is there can be changed, or taken out, only by whoever has the cell for himself.
//@ error: E0596

use pyo3_sync::PyOnceLock;

pub fn case(
    #[cfg(feature = "fail")] cell: &PyOnceLock<i32>,
    #[cfg(not(feature = "fail"))] cell: &mut PyOnceLock<i32>,
) {
    cell.take();
}

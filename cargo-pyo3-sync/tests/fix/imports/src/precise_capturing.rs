use pyo3::prelude::*;

fn cells(count: &u8) -> impl Iterator<Item = u8> + use<'_> {
    pyo3::sync::GILOnceCell::<u8>::new().into_inner().into_iter().chain(Some(*count))
}

fn total(py: Python<'_>, cell: &pyo3::sync::GILOnceCell<u8>) -> u8 {
    cell.get(py).copied().into_iter().chain(cells(&1)).sum()
}

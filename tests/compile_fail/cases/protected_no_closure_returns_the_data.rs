//! The data are lent for the length of the closure, during which the cell is borrowed, and its result outlives it.
//@ error: lifetime may not live long enough
//@ places: 12

use pyo3::Python;
use pyo3_sync::PyProtected;

pub fn case(py: Python<'_>, one: &PyProtected<i32>, two: &PyProtected<i32>) {
    #[cfg(feature = "fail")]
    {
        let _ = one.with(py, |data| data);
        let _ = one.try_with(py, |data| data);
        let _ = one.with_mut(py, |data| data);
        let _ = one.try_with_mut(py, |data| data);
        let _ = one.with2(py, two, |data, _| data);
        let _ = one.with2(py, two, |_, data| data);
        let _ = one.try_with2(py, two, |data, _| data);
        let _ = one.try_with2(py, two, |_, data| data);
        let _ = one.with2_mut(py, two, |data, _| data);
        let _ = one.with2_mut(py, two, |_, data| data);
        let _ = one.try_with2_mut(py, two, |data, _| data);
        let _ = one.try_with2_mut(py, two, |_, data| data);
    }
    #[cfg(not(feature = "fail"))]
    {
        let _ = one.with(py, |data| *data);
        let _ = one.try_with(py, |data| *data);
        let _ = one.with_mut(py, |data| *data);
        let _ = one.try_with_mut(py, |data| *data);
        let _ = one.with2(py, two, |data, _| *data);
        let _ = one.with2(py, two, |_, data| *data);
        let _ = one.try_with2(py, two, |data, _| *data);
        let _ = one.try_with2(py, two, |_, data| *data);
        let _ = one.with2_mut(py, two, |data, _| *data);
        let _ = one.with2_mut(py, two, |_, data| *data);
        let _ = one.try_with2_mut(py, two, |data, _| *data);
        let _ = one.try_with2_mut(py, two, |_, data| *data);
    }
}

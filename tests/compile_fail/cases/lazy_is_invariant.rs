//! The value can be made through a shared reference. Were it taken for a shorter-lived one, such could be put in and
//! outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PyLazy;

#[cfg(feature = "fail")]
pub fn shorten<'a, F>(lazy: &'a PyLazy<&'static str, F>) -> &'a PyLazy<&'a str, F> {
    lazy
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a, F>(lazy: &'b PyLazy<&'static str, F>) -> &'a PyLazy<&'static str, F> {
    lazy
}

//! The value can be made through a shared reference. Were it taken for a shorter-lived one, such could be put in and
//! outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PyTryLazy;

#[cfg(feature = "fail")]
pub fn shorten<'a, F>(lazy: &'a PyTryLazy<&'static str, F>) -> &'a PyTryLazy<&'a str, F> {
    lazy
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a, F>(
    lazy: &'b PyTryLazy<&'static str, F>,
) -> &'a PyTryLazy<&'static str, F> {
    lazy
}

//! What the compiler derives is the same on free-threaded Python, where some types have other fields: the table of `tests/auto_traits.rs` again.
//@ error: E0277
//@ python: free-threaded

#[cfg(feature = "fail")]
static_assertions::assert_impl_all!(pyo3_sync::PyProtected<std::rc::Rc<i32>>: Send);

#[cfg(not(feature = "fail"))]
#[path = "../../auto_traits.rs"]
mod auto_traits;

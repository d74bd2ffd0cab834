//! A guard trusts the pointer that its access returns. A program that could implement the trait
//! could return any.
//@ error: E0277

use pyo3_sync::guard::Access;

pub struct Anything;

#[cfg(feature = "fail")]
impl Access for Anything {
    type Target = i32;
}
#[cfg(not(feature = "fail"))]
pub fn target<A: Access>(_: A::Target)
where
    A::Target: Sized,
{
}

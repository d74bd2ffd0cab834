//! A mapped guard is not lent exclusively to code that runs detached, which could drop it in exchange for another. Shared
//! it is: nothing can be unlocked through that.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::MappedPyRwLockReadGuard;

pub fn case(py: Python<'_>, guard: &mut MappedPyRwLockReadGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    let data = guard;
    #[cfg(not(feature = "fail"))]
    let data = &*guard;
    py.detach(move || use_it(data));
}

fn use_it(_: &i32) {}

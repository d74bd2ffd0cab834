//! Where there is no GIL, `GILProtected` cannot be read, and the error says what to use.
//@ error: E0277
//@ python: free-threaded
//@ says: `GILProtected` protects nothing on free-threaded Python
//@ says: use `pyo3_sync::PyProtected`
//@ says: section 2 of MIGRATION.md

use pyo3::Python;

#[cfg(feature = "fail")]
#[allow(deprecated)]
static NAMES: pyo3_sync::compat::GILProtected<std::cell::RefCell<Vec<String>>> =
    pyo3_sync::compat::GILProtected::new(std::cell::RefCell::new(Vec::new()));

#[cfg(not(feature = "fail"))]
static NAMES: pyo3_sync::PyProtected<Vec<String>> = pyo3_sync::PyProtected::new(Vec::new());

pub fn case(py: Python<'_>, name: String) {
    #[cfg(feature = "fail")]
    #[allow(deprecated)]
    NAMES.get(py).borrow_mut().push(name);
    #[cfg(not(feature = "fail"))]
    NAMES.with_mut(py, |names| names.push(name));
}

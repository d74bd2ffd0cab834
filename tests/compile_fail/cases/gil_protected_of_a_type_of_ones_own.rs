//! Where there is no GIL nobody says of a type of his own that it is protected by one.
//@ error: E0277
//@ python: free-threaded

use std::cell::Cell;

#[cfg(feature = "fail")]
use pyo3_sync::compat::ProtectedByTheGil;

pub struct Counter(pub Cell<i32>);

#[cfg(not(feature = "fail"))]
pub trait ProtectedByTheGil {}

impl ProtectedByTheGil for Counter {}

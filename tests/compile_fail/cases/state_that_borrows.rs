//! A state lives as long as its module, and nobody knows how long that is: it borrows nothing.
//@ error: E0310

use std::any::Any;

use pyo3_sync::ModuleData;

#[cfg(feature = "fail")]
pub fn case<T: Send + Sync>(state: T) -> Box<dyn Any> {
    Box::new(state)
}
#[cfg(not(feature = "fail"))]
pub fn case<T: ModuleData>(state: T) -> Box<dyn Any> {
    Box::new(state)
}

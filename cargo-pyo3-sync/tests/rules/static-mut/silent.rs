use std::sync::atomic::AtomicU64;

use pyo3::{ffi, prelude::*};

static CALLS: AtomicU64 = AtomicU64::new(0);

// CPython writes to its tables when the module is made.
static mut MODULE: ffi::PyModuleDef = unsafe { std::mem::zeroed() };
static mut METHODS: [ffi::PyMethodDef; 2] = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests {
    static mut COUNT: u32 = 0;
}

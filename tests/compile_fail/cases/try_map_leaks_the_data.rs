//! The closure of `try_map` gets the data to choose a part, which lives in the new guard, and keeps nothing for itself. (That of
//! `PyRwLock`'s own guards has cases of its own.)
//@ error: E0521
//@ places: 4

use pyo3_sync::{
    MappedPyMutexGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard, PyMutexGuard,
};

pub fn mutex(guard: PyMutexGuard<'_, [i32; 2]>) -> bool {
    let mut kept = None;
    let _guard = PyMutexGuard::try_map(guard, |[first, second]| {
        kept = Some(exclusive(first));
        Some(second)
    });
    kept.is_some()
}

pub fn mapped(guard: MappedPyMutexGuard<'_, [i32; 2]>) -> bool {
    let mut kept = None;
    let _guard = MappedPyMutexGuard::try_map(guard, |[first, second]| {
        kept = Some(exclusive(first));
        Some(second)
    });
    kept.is_some()
}

pub fn mapped_read(guard: MappedPyRwLockReadGuard<'_, [i32; 2]>) -> bool {
    let mut kept = None;
    let _guard = MappedPyRwLockReadGuard::try_map(guard, |[first, second]| {
        kept = Some(shared(first));
        Some(second)
    });
    kept.is_some()
}

pub fn mapped_write(guard: MappedPyRwLockWriteGuard<'_, [i32; 2]>) -> bool {
    let mut kept = None;
    let _guard = MappedPyRwLockWriteGuard::try_map(guard, |[first, second]| {
        kept = Some(exclusive(first));
        Some(second)
    });
    kept.is_some()
}

#[cfg(feature = "fail")]
fn shared(first: &i32) -> &i32 {
    first
}
#[cfg(not(feature = "fail"))]
fn shared(first: &i32) -> i32 {
    *first
}
#[cfg(feature = "fail")]
fn exclusive(first: &mut i32) -> &mut i32 {
    first
}
#[cfg(not(feature = "fail"))]
fn exclusive(first: &mut i32) -> i32 {
    *first
}

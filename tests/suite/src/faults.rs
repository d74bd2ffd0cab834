//! Faults committed on purpose, by which `cargo sanitize` sees that its sanitizer looks at all.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub(crate) fn commit(name: &str) -> PyResult<()> {
    match name {
        "data race" => data_race(),
        "use after free" => use_after_free(),
        "leak" => leak(),
        _ => return Err(PyValueError::new_err(format!("not a fault: {name}"))),
    }
    Ok(())
}

/// Two threads change a number, and nothing orders them.
fn data_race() {
    struct Number(*mut u64);
    // SAFETY: none. That is the fault.
    unsafe impl Sync for Number {}

    let mut number = 0;
    let shared = &Number(&raw mut number);
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                start.wait();
                for _ in 0..1000 {
                    // SAFETY: none, as above; it points to a variable that outlives the threads.
                    unsafe { *black_box(shared).0 += 1 };
                }
            });
        }
    });
    black_box(number);
}

fn use_after_free() {
    let number = Box::into_raw(Box::new(1_u64));
    // SAFETY: from `into_raw`, right before.
    drop(unsafe { Box::from_raw(number) });
    // SAFETY: none. That is the fault.
    black_box(unsafe { number.read_volatile() });
}

fn leak() {
    std::mem::forget(black_box(Box::new([1_u64; 100])));
}

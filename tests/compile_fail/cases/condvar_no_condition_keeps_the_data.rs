//! A condition gets the data for as long as it is being asked, in each form of waiting.
//@ error: E0521
//@ places: 5

use std::time::{Duration, Instant};

use pyo3_sync::{PyCondvar, PyMutexGuard, Wait};

pub fn case(condvar: &PyCondvar, guard: &mut PyMutexGuard<'_, [i32; 2]>) -> bool {
    let mut kept = [const { None }; 5];
    let [one, two, three, four, five] = &mut kept;
    condvar.wait_while(guard, |data| one.insert(of(data)).is_empty());
    let _ = condvar.wait_while_checked(guard, |data| two.insert(of(data)).is_empty());
    let _ = condvar.wait_while_with(
        guard,
        |data| three.insert(of(data)).is_empty(),
        Wait::new().interruptible(),
    );
    condvar.wait_while_with(
        guard,
        |data| four.insert(of(data)).is_empty(),
        Duration::ZERO,
    );
    condvar.wait_while_with(
        guard,
        |data| five.insert(of(data)).is_empty(),
        Instant::now(),
    );
    kept.iter().any(Option::is_some)
}

#[cfg(feature = "fail")]
fn of(data: &mut [i32; 2]) -> &mut [i32; 2] {
    data
}
#[cfg(not(feature = "fail"))]
fn of(data: &mut [i32; 2]) -> [i32; 2] {
    *data
}

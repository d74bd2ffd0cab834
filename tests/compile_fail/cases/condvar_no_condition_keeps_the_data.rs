//! A condition gets the data for as long as it is being asked, in each form of waiting.
//@ error: E0521
//@ places: 3

use pyo3_sync::{PyCondvar, PyMutexGuard, Wait};

pub fn case(condvar: &PyCondvar, guard: &mut PyMutexGuard<'_, [i32; 2]>) -> bool {
    let mut kept = [const { None }; 3];
    let [one, two, three] = &mut kept;
    condvar.wait_while(guard, |data| one.insert(of(data)).is_empty());
    let _ = condvar.wait_while_checked(guard, |data| two.insert(of(data)).is_empty());
    let _ = condvar.wait_while_with(guard, |data| three.insert(of(data)).is_empty(), Wait::new());
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

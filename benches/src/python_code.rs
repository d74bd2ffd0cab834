//! Subjects whose rounds are loops in Python.

use std::ffi::CStr;

use pyo3::{
    prelude::*,
    types::{PyDict, PyRange},
};

use crate::harness::Subject;

/// `code` defines `repeat(turns, object)`, which does the operation a number of `times` in each of the turns.
pub(crate) fn subject<'py>(
    py: Python<'py>,
    name: &'static str,
    code: &CStr,
    object: Bound<'py, PyAny>,
    times: u64,
) -> Subject<'py> {
    let names = PyDict::new(py);
    let defined = py.run(code, Some(&names), None);
    let repeat = defined.and_then(|()| names.as_any().get_item("repeat"));
    let repeat = repeat.expect("the code defines it");
    Subject::batches(name, move |size| {
        let turns = isize::try_from(size.div_ceil(times)).expect("not so many");
        let turns = PyRange::new(py, 0, turns).expect("it is made");
        let begun = std::time::Instant::now();
        repeat.call1((turns, &object)).expect("the loop is good");
        let elapsed = begun.elapsed();
        elapsed.mul_f64(size as f64 / size.next_multiple_of(times) as f64)
    })
}

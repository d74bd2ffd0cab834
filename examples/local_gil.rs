//! `cargo run --example local_gil`: an extension that relied on the GIL, made safe in one step.
//!
//! A word index with three global variables, which must agree with each other. It used to keep each in a
//! `GILProtected<RefCell<_>>`; now one [`PyProtected`] holds them all. Python threads use it at once, and one of its functions
//! calls back into Python.

use std::collections::BTreeMap;

use pyo3::{prelude::*, types::PyList};
use pyo3_sync::PyProtected;

/// All the global state of this extension.
struct State {
    /// How often each word was seen.
    words: BTreeMap<String, u64>,
    /// The sum of the values of `words`.
    total: u64,
    /// Called with each new word.
    on_new_word: Option<Py<PyAny>>,
}

/// The local GIL: whoever is in here has the state to himself, until he calls into Python.
static STATE: PyProtected<State> = PyProtected::new(State {
    words: BTreeMap::new(),
    total: 0,
    on_new_word: None,
});

#[pyfunction]
fn see(py: Python<'_>, word: String) -> PyResult<()> {
    let notify = STATE.with_mut(py, |state| {
        state.total += 1;
        let count = state.words.entry(word.clone()).or_default();
        *count += 1;
        let is_new = *count == 1;
        let callback = state.on_new_word.as_ref().filter(|_| is_new);
        callback.map(|callback| callback.clone_ref(py))
    });
    // Not inside: the callback may come back to `see`, and lets other threads in.
    match notify {
        Some(callback) => callback.call1(py, (word,)).map(drop),
        None => Ok(()),
    }
}

#[pyfunction]
fn on_new_word(py: Python<'_>, callback: Py<PyAny>) {
    let old = STATE.with_mut(py, |state| state.on_new_word.replace(callback));
    drop(old); // Not inside either: it may have a `__del__`.
}

/// The number of different words, the sum of their counts, and the total. The last two agree at every moment.
#[pyfunction]
fn statistics(py: Python<'_>) -> (usize, u64, u64) {
    STATE.with(py, |state| {
        (state.words.len(), state.words.values().sum(), state.total)
    })
}

#[pymodule(gil_used = false)]
fn words(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pyo3_sync::ensure_single_interpreter(module)?;
    module.add_function(wrap_pyfunction!(see, module)?)?;
    module.add_function(wrap_pyfunction!(on_new_word, module)?)?;
    module.add_function(wrap_pyfunction!(statistics, module)?)
}

const PROGRAM: &std::ffi::CStr = c"
import threading, words

new = []
def callback(word):
    new.append(word)
    if word == 'six':
        words.see('half a dozen')  # comes back while the first call is still running

def read():
    for _ in range(2000):
        for word in 'one two three four five six'.split():
            words.see(word)
        different, counted, total = words.statistics()
        assert counted == total, (counted, total)

words.on_new_word(callback)
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";

fn main() -> PyResult<()> {
    pyo3::append_to_inittab!(words);
    Python::initialize();
    Python::attach(|py| {
        let globals = pyo3::types::PyDict::new(py);
        py.run(PROGRAM, Some(&globals), None)?;
        let (different, counted, total) = statistics(py);
        let new = globals.get_item("new")?.expect("the program has it");
        let new: Vec<String> = new.cast_into::<PyList>()?.extract()?;
        println!("4 Python threads saw {total} words, {different} different ones: {new:?}");
        println!("the state agreed with itself each time they looked: {counted} == {total}");
        assert_eq!((different, counted), (7, total));
        assert_eq!(total, 4 * 2000 * 6 + 1);
        Ok(())
    })
}

//! Getting at the state of a module beside a plain `static`, and beside a look-up in the module's dictionary.

use std::{hint::black_box, sync::OnceLock};

use pyo3::{intern, prelude::*};
use pyo3_sync::{ModuleData, ModuleState, PyRwLock};

use crate::harness::{Group, OURS, Outcome, Peer, Subject, compare};

pub(crate) const GROUP: Group = Group {
    name: "module_state",
    benchmarks: &[
        ("get, one module", get),
        ("find, one module", find),
        ("get, four modules", get_of_four),
    ],
    free_threaded_only: &[],
};

pub(crate) struct Number(pub(crate) u64);
impl ModuleData for Number {}

pub(crate) static STATE: ModuleState<Number> = ModuleState::new();
static PLAIN: OnceLock<Number> = OnceLock::new();

/// An object that owns the data, as the holder of a state does.
#[pyclass(frozen)]
struct Holder(Number);

const DICTIONARY: &str = "module's dictionary";

pub(crate) fn module<'py>(py: Python<'py>) -> Bound<'py, PyModule> {
    let module = PyModule::new(py, "m").expect("it is made");
    STATE
        .init(&module, || Ok(Number(1)))
        .expect("it has no state");
    // What an extension would have there: an object, whose class then gives the data.
    module.add("state", py.None()).expect("it is added");
    module
}

/// No module is left from another benchmark.
fn collect(py: Python<'_>) {
    for _ in 0..3 {
        let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
        collected.expect("the collector runs");
    }
}

fn peers<'py>(module: &Bound<'py, PyModule>) -> Vec<Subject<'py>> {
    let py = module.py();
    PLAIN.get_or_init(|| Number(1));
    let holder = Py::new(py, Holder(Number(1))).expect("it is made");
    let (dictionary, lock) = (module.dict(), PyRwLock::new(Number(1)));
    vec![
        Subject::repeated("plain static", || PLAIN.get().expect("it is filled").0),
        Subject::repeated("static PyRwLock", move || lock.read(py).0),
        Subject::repeated(DICTIONARY, move || {
            let state = dictionary.get_item(intern!(py, "state"));
            state.expect("no error").expect("it is there")
        }),
        // What a reader would need to own an object, if it knew where the object is.
        Subject::repeated("strong reference", move || {
            let holder = holder.clone_ref(py);
            holder.get().0.0
        }),
        Subject::empty_loop(),
    ]
}

fn compare_with_peers(
    py: Python<'_>,
    modules: usize,
    ours: impl Fn(&Bound<'_, PyModule>) -> u64,
) -> Outcome {
    collect(py);
    let modules: Vec<_> = (0..modules).map(|_| module(py)).collect();
    let module = &modules[0];
    let mut subjects = vec![Subject::repeated(OURS, || ours(black_box(module)))];
    subjects.extend(peers(module));
    compare(31, subjects)
}

fn with_targets(outcome: Outcome) -> Outcome {
    outcome
        .target(Peer::Named(DICTIONARY), 1.0)
        .target(Peer::Nanosecond, 5.0)
}

fn get(py: Python<'_>) -> Outcome {
    let ours = |module: &Bound<'_, PyModule>| STATE.get(module).expect("it is there").0;
    with_targets(compare_with_peers(py, 1, ours))
}

fn find(py: Python<'_>) -> Outcome {
    let ours = |module: &Bound<'_, PyModule>| STATE.find(module.py()).expect("it is there").0;
    with_targets(compare_with_peers(py, 1, ours))
}

fn get_of_four(py: Python<'_>) -> Outcome {
    let ours = |module: &Bound<'_, PyModule>| STATE.get(module).expect("it is there").0;
    compare_with_peers(py, 4, ours)
}

//! States of modules, which come and go: each is made once, had through the module, through a class of it and through a submodule, and
//! dropped by the collector.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pyo3::prelude::*;
use pyo3::types::{PyModule, PyType};
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::{ModuleData, ModuleState, PyMutex};

use super::actions::{change, deliberate, meanwhile, mortal};
use super::chance::{below, one_in};
use super::ledger::{self, Place, hold};
use super::world::{ALIVE, Account, Believed, ask, count, expect, world};
use crate::module_state::{class_of, classes_know_no_module};

struct State {
    /// No other state has the same.
    number: usize,
    /// Made with the module.
    class: Py<PyType>,
    account: PyMutex<Account>,
    objects: PyMutex<Vec<Py<PyAny>>>,
}

impl State {
    fn new(module: &Bound<'_, PyModule>) -> PyResult<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let class = class_of(module)?.unbind();
        count(&ALIVE);
        Ok(State {
            number: NUMBER.fetch_add(1, SeqCst),
            class,
            account: PyMutex::default(),
            // Only the collector frees it.
            objects: PyMutex::new(vec![module.clone().into_any().unbind()]),
        })
    }
}

impl ModuleData for State {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.class)?;
        for object in self.objects.traverse(visit).into_iter().flatten() {
            visit.call(object)?;
        }
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}

static STATE: ModuleState<State> = ModuleState::new();

pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    // Where the lock of a state is, a report says, and nothing else does.
    let _entries = (hold(Place::ANY), ledger::want(Place::ANY));
    let shared = {
        let shared = world().module.lock().expect("no panic under it");
        shared.as_ref().map(|module| module.clone_ref(py))
    };
    let module = match shared {
        Some(module) if !one_in(20) => module.into_bound(py),
        _ => {
            let module = PyModule::new(py, "stress_state")?;
            let new = module.clone().unbind();
            let old = world()
                .module
                .lock()
                .expect("no panic under it")
                .replace(new);
            drop(old);
            module
        }
    };
    let init = || {
        meanwhile(py)?;
        if one_in(5) {
            return Err(deliberate(py));
        }
        let state = State::new(&module)?;
        module.setattr("made", module.hasattr("made")? as usize + 1)?;
        Ok(state)
    };
    let state = ask(py, Place::ANY, || {
        Ok(match below(4) {
            // Of another module, perhaps.
            0 => STATE.find(py).ok().map(|state| (state, false)),
            1 => STATE.get(&module).ok().map(|state| (state, true)),
            _ => Some((STATE.get_or_try_init(&module, init)?, true)),
        })
    });
    if let Some((state, is_of_module)) = state {
        if is_of_module {
            use_other_ways(&module, &state)?;
        }
        let place = Place::of(&state.account);
        if let Some(mut account) = ask(py, place, || Ok(Some(state.account.lock_checked(py)?))) {
            let _entry = hold(place);
            change(py, &mut account, &Believed::from(()))?;
        }
        if one_in(4) {
            let object = mortal(py)?;
            let lock = ask(py, Place::of(&state.objects), || {
                Ok(state.objects.try_lock(py))
            });
            if let (Some(mut objects), Some(object)) = (lock, object) {
                objects.push(object);
            }
        }
    }
    if module.hasattr("made")? {
        let made: usize = module.getattr("made")?.extract()?;
        expect(made == 1, "a module has got its state several times");
    }
    Ok(())
}

/// The state of a module is had through a class of it, and through a submodule.
fn use_other_ways(module: &Bound<'_, PyModule>, state: &State) -> PyResult<()> {
    let py = module.py();
    if one_in(3) && classes_know_no_module(py).is_none() {
        let same = STATE.of_type(state.class.bind(py))?;
        expect(
            same.number == state.number,
            "a class has the state of another module than its own",
        );
    }
    if one_in(6) {
        let inner = PyModule::new(py, "stress_inner")?;
        STATE.share(module, &inner)?;
        meanwhile(py)?;
        let same = STATE.get(&inner)?;
        expect(
            same.number == state.number,
            "a submodule has the state of another module than its parent",
        );
        module.setattr("inner", inner)?; // In place of the one that was there, which is dropped.
    }
    Ok(())
}

//! The Python object that a state belongs to.

use std::any::Any;

use pyo3::{
    PyTraverseError,
    prelude::*,
    pyclass::PyVisit,
    types::{PyCFunction, PyWeakrefReference},
};

use super::{
    State,
    record::{Place, Records},
};
use crate::{PyMutex, PyOnceLock};

/// Owns a state: held by the dictionary of the module, traversed and cleared by the collector, and gone when it is.
///
/// # The collector
///
/// It first finds out, with the world stopped, which objects nobody can reach, then lets them run code (finalisers, the callbacks of
/// weak references), looks again whether they can still not be reached, and then clears and frees them. Threads run in between. A
/// thread that looks for the state by [`find`](super::ModuleState::find) comes from outside, as if through a weak reference, and the same
/// must hold for it: either it has found the state before the second look, and what the state refers to is spared, or it does not find
/// it. So
///
/// - the state is condemned by the callback of a real weak reference, which the collector calls between its two looks;
/// - a state that is being read is not traversed: what it refers to then counts as reachable.
///
/// Those who read a state are attached, so while the world is stopped none begins or ends: the answer is the same for all of
/// one look (invariant I6).
#[pyclass(frozen, weakref, module = "pyo3_sync", name = "ModuleState")]
pub(super) struct Holder {
    state: Box<dyn Held>,
    /// Kept alive, so that as long as the state is live no other module has its address.
    module: PyMutex<Option<Py<PyModule>>>,
    /// The weak reference to this object. It is not traversed, so the collector takes it for reachable and calls it.
    watch: PyMutex<Option<Py<PyAny>>>,
}

/// A state of any type, as its holder sees it.
trait Held: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn condemn(&self);
    fn abandon(&self);
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The part of a holder that depends on the type of the state.
pub(super) struct Content<T: State> {
    records: &'static Records<T>,
    pub(super) place: Place<T>,
}

impl<T: State> Content<T> {
    /// The cell that the state is in, or will be.
    pub(super) fn cell(&self) -> &PyOnceLock<T> {
        // SAFETY: the holder exists: this is a part of it.
        unsafe { self.place.cell() }
    }
}

impl<T: State> Held for Content<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn condemn(&self) {
        self.records.condemn(self.place);
    }

    fn abandon(&self) {
        self.records.abandon(self.place);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Who reads begins and ends attached, so not in the middle of a traversal.
        match self.cell().traverse(visit) {
            Some(state) if !self.place.is_read() => state.traverse(visit),
            _ => Ok(()),
        }
    }
}

impl Holder {
    /// A holder for a state that is still to be made.
    pub(super) fn new<'py, T: State>(
        records: &'static Records<T>,
        module: &Bound<'py, PyModule>,
    ) -> PyResult<Bound<'py, Holder>> {
        let py = module.py();
        let place = records.take(module);
        let holder = Holder {
            state: Box::new(Content { records, place }),
            module: PyMutex::new(Some(module.clone().unbind())),
            watch: PyMutex::new(None),
        };
        let holder = Bound::new(py, holder)?;
        let condemn = PyCFunction::new_closure(py, None, None, move |_, _| records.condemn(place))?;
        let watch = PyWeakrefReference::new_with(&holder, condemn)?;
        *holder.get().watch.lock(py) = Some(watch.into_any().unbind());
        Ok(holder)
    }

    /// What it holds, if that belongs to the `ModuleState` with these records.
    pub(super) fn content<T: State>(&self, records: &'static Records<T>) -> Option<&Content<T>> {
        let content: &Content<T> = self.state.as_any().downcast_ref()?;
        std::ptr::eq(content.records, records).then_some(content)
    }
}

#[pymethods]
impl Holder {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(module) = self.module.traverse(&visit) {
            visit.call(module)?;
        }
        self.state.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        // Before the module goes, whose address another one may get.
        self.state.condemn();
        let _module = self.module.lock(py).take();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.state.abandon();
    }
}

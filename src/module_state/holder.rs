//! The Python object that a state belongs to.

use std::{any::Any, ffi::c_void, ptr};

use pyo3::{
    Borrowed, PyTraverseError, ffi,
    prelude::*,
    pyclass::PyVisit,
    types::{PyTuple, PyType},
};

use super::{
    ModuleData,
    record::{Place, Records},
};
use crate::{PyMutex, PyOnceLock};

/// Owns a state: held by the dictionary of the module, traversed and cleared by the collector, and gone when it is.
///
/// # The collector
///
/// It first finds out, with the world stopped, which objects nobody can reach, then runs their finalisers, looks again whether they can
/// still not be reached, and then clears and frees them. Threads run in between. A thread that looks for the state by
/// [`find`](super::ModuleState::find) comes from outside, as if through a weak reference, and the same must hold for it: either it has
/// found the state before the second look, and what the state refers to is spared, or it does not find it. So
///
/// - the state is condemned by a finaliser, which the collector calls between its two looks. It is a function in C, because a call
///   that needs memory or stack space of the interpreter's can fail, which the collector ignores;
/// - a state that is being read is not traversed: what it refers to then counts as reachable.
///
/// Those who read a state are attached, so while the world is stopped none begins or ends: the answer is the same for all of
/// one look (invariant I6).
#[pyclass(frozen, subclass, module = "pyo3_sync", name = "ModuleState")]
pub(super) struct Holder {
    /// Empty in an object that Python code has made, which holds nothing.
    state: PyOnceLock<Box<dyn Held>>,
    /// Kept alive, so that as long as the state is live no other module has its address.
    module: PyMutex<Option<Py<PyModule>>>,
}

/// A state of any type, as its holder sees it.
trait Held: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn condemn(&self);
    fn abandon(&self);
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The part of a holder that depends on the type of the state.
pub(super) struct Content<T: ModuleData> {
    records: &'static Records<T>,
    pub(super) place: Place<T>,
    /// The holder that replaces this one, if it is condemned and its module was resurrected.
    pub(super) successor: PyOnceLock<Py<Holder>>,
}

impl<T: ModuleData> Content<T> {
    /// The cell that the state is in, or will be.
    pub(super) fn cell(&self) -> &PyOnceLock<T> {
        // SAFETY: the holder exists: this is a part of it.
        unsafe { self.place.cell() }
    }
}

impl<T: ModuleData> Held for Content<T> {
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
        if let Some(successor) = self.successor.traverse(visit) {
            visit.call(successor)?;
        }
        // Readers enter and leave attached, so not in the middle of a traversal.
        match self.cell().traverse(visit) {
            Some(state) if !self.place.is_read() => state.traverse(visit),
            _ => Ok(()),
        }
    }
}

impl Holder {
    /// A holder for a state that is still to be made.
    pub(super) fn new<'py, T: ModuleData>(
        records: &'static Records<T>,
        module: &Bound<'py, PyModule>,
    ) -> PyResult<Bound<'py, Holder>> {
        let py = module.py();
        let holder = class(py)?.call0()?.cast_into::<Holder>()?;
        let place = records.take(module);
        let content: Box<dyn Held> = Box::new(Content {
            records,
            place,
            successor: PyOnceLock::new(),
        });
        let is_empty = holder.get().state.set(py, content).is_ok();
        debug_assert!(is_empty, "nobody else has it yet");
        *holder.get().module.lock(py) = Some(module.clone().unbind());
        Ok(holder)
    }

    /// What it holds, if that belongs to the `ModuleState` with these records.
    pub(super) fn content<T: ModuleData>(
        &self,
        records: &'static Records<T>,
    ) -> Option<&Content<T>> {
        let content: &Content<T> = self.state.peek()?.as_any().downcast_ref()?;
        ptr::eq(content.records, records).then_some(content)
    }

    fn condemn(&self) {
        if let Some(state) = self.state.peek() {
            state.condemn();
        }
    }
}

#[pymethods]
impl Holder {
    #[new]
    fn empty() -> Self {
        Holder {
            state: PyOnceLock::new(),
            module: PyMutex::new(None),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(module) = self.module.traverse(&visit) {
            visit.call(module)?;
        }
        match self.state.traverse(&visit) {
            Some(state) => state.traverse(&visit),
            None => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        // Before the module goes, whose address another one may get.
        self.condemn();
        let _module = self.module.lock(py).take();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(state) = self.state.peek() {
            state.abandon();
        }
    }
}

/// The class of holders: [`Holder`] with a finaliser, which PyO3's classes cannot have.
fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init_py(py, || {
        let mut slots = [
            ffi::PyType_Slot {
                slot: ffi::Py_tp_finalize,
                pfunc: finalize as *mut c_void,
            },
            ffi::PyType_Slot {
                slot: 0,
                pfunc: ptr::null_mut(),
            },
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"pyo3_sync.ModuleState".as_ptr(),
            basicsize: 0, // That of its base.
            itemsize: 0,
            flags: ffi::Py_TPFLAGS_DEFAULT as _,
            slots: slots.as_mut_ptr(),
        };
        let bases = PyTuple::new(py, [py.get_type::<Holder>()])?;
        // SAFETY: attached, by the token; the specification is complete, its name is static, and the rest is copied by the call; the
        // result is a new reference, or null with an exception.
        let class = unsafe {
            let class = ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr());
            Bound::from_owned_ptr_or_err(py, class)?
        };
        Ok(class.cast_into()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// Called by the interpreter, once: when the collector has found the holder unreachable, or when it is about to be freed.
extern "C" fn finalize(holder: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls it attached, with an object of the class above, which is derived from `Holder`, and which lives
    // for as long as the call.
    unsafe {
        let holder = Borrowed::from_ptr(Python::assume_attached(), holder);
        holder.cast_unchecked::<Holder>().get().condemn();
    }
}

//! The Python object that owns a module state.

use std::{any::Any, ffi::c_void, ptr};

use pyo3::{
    Borrowed, PyTraverseError, ffi,
    prelude::*,
    pyclass::PyVisit,
    types::{PyTuple, PyType},
};

use super::{
    ModuleData,
    record::{Owned, Records},
};
use crate::{PyMutex, PyOnceLock};

/// Owns a state.
///
/// The dictionary of the module refers to the holder. The collector traverses and clears it.
///
/// # Garbage collection
///
/// The collector finds the unreachable objects (with the world stopped), runs their finalizers,
/// checks again which objects are unreachable, and then clears and frees them. Other threads run in
/// between. A thread may then look up the state with [`find`](super::ModuleState::find), as through
/// a weak reference. Either it finds the state before the second check, and the objects of the
/// state are kept, or it does not find the state:
///
/// - A finalizer condemns the state, between the two checks. The finalizer is a C function: a
///   Python call can fail for lack of memory or stack, and the collector would ignore that.
/// - A state with readers is not traversed, so its objects count as reachable.
///
/// Readers are attached, so none enters or leaves during one stop of the world, and a check sees
/// one consistent state (I6).
#[pyclass(frozen, subclass, module = "pyo3_sync", name = "ModuleState")]
pub(super) struct Holder {
    /// Empty in an object created by Python code, which holds no state.
    state: PyOnceLock<Box<dyn Held>>,
    /// Keeps the module alive: while the state is live, no other module has its address.
    module: PyMutex<Option<Py<PyModule>>>,
}

/// A state of any type.
trait Held: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn condemn(&self);
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The part of a holder that depends on the type of the state.
pub(super) struct Content<T: ModuleData> {
    pub(super) state: Owned<T>,
    /// The holder that replaces this one, if it is condemned and its module was resurrected.
    pub(super) successor: PyOnceLock<Py<Holder>>,
}

impl<T: ModuleData> Held for Content<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn condemn(&self) {
        self.state.condemn();
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(successor) = self.successor.traverse(visit) {
            visit.call(successor)?;
        }
        // I6: readers enter and leave attached, so the result is the same during one traversal.
        match self.state.cell().traverse(visit) {
            Some(state) if !self.state.is_read() => state.traverse(visit),
            _ => Ok(()),
        }
    }
}

impl Holder {
    /// Creates a holder for a state that is not initialized yet.
    pub(super) fn new<'py, T: ModuleData>(
        records: &'static Records<T>,
        module: &Bound<'py, PyModule>,
    ) -> PyResult<Bound<'py, Holder>> {
        let py = module.py();
        let holder = class(py)?.call0()?.cast_into::<Holder>()?;
        let content: Box<dyn Held> = Box::new(Content {
            state: records.create(module),
            successor: PyOnceLock::new(),
        });
        let is_empty = holder.get().state.set(py, content).is_ok();
        debug_assert!(is_empty, "nobody else has it yet");
        *holder.get().module.lock(py) = Some(module.clone().unbind());
        Ok(holder)
    }

    /// Returns the content if it belongs to the `ModuleState` with these records.
    pub(super) fn content<T: ModuleData>(
        &self,
        records: &'static Records<T>,
    ) -> Option<&Content<T>> {
        let content: &Content<T> = self.state.peek()?.as_any().downcast_ref()?;
        content.state.is_of(records).then_some(content)
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
        // Condemn first: once the module is freed, another module may get its address.
        self.condemn();
        let _module = self.module.lock(py).take();
    }
}

/// Returns the class of holders: a subclass of [`Holder`] with a finalizer.
///
/// A `#[pyclass]` cannot have a finalizer.
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
            basicsize: 0, // Inherited.
            itemsize: 0,
            flags: ffi::Py_TPFLAGS_DEFAULT as _,
            slots: slots.as_mut_ptr(),
        };
        let bases = PyTuple::new(py, [py.get_type::<Holder>()])?;
        // SAFETY:
        // - The token proves that the thread is attached.
        // - The specification is complete. Its name is static, and the call copies the rest.
        // - The result is a new reference, or null with an exception set.
        let class = unsafe {
            let class = ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr());
            Bound::from_owned_ptr_or_err(py, class)?
        };
        Ok(class.cast_into()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// Condemns the state of a holder.
///
/// The interpreter calls this once, when the collector has found the holder unreachable, or before
/// it is freed.
extern "C" fn finalize(holder: *mut ffi::PyObject) {
    // SAFETY:
    // - The interpreter calls finalizers attached.
    // - The object is of the class above, a subclass of `Holder`, and lives during the call.
    unsafe {
        let holder = Borrowed::from_ptr(Python::assume_attached(), holder);
        holder.cast_unchecked::<Holder>().get().condemn();
    }
}

//! [`ModuleState`]: state of a module object.

mod collector;
mod holder;
mod record;

use std::{
    any::type_name,
    fmt,
    ops::Deref,
    sync::atomic::{AtomicU32, Ordering},
};

use pyo3::{
    PyTraverseError,
    exceptions::PyRuntimeError,
    ffi, intern,
    prelude::*,
    pyclass::PyVisit,
    types::{PyDict, PyString, PyTuple, PyType},
};

use self::{
    collector::Collector,
    holder::{Content, Holder},
    record::{NotOne, Place, Reading, Records},
};
use crate::{
    PyOnceLock,
    python::{exception_aside, is_finalizing, module_of_type},
};

/// A type that can be the state of a module.
///
/// The default methods suit a state without Python objects, and a state whose objects do not refer
/// to the module. Objects that do must be visited by [`traverse`](Self::traverse), or the module is
/// never freed: classes created at run time, their instances, and functions of the module.
///
/// # Examples
///
/// ```
/// use pyo3::{PyTraverseError, PyVisit, prelude::*, types::PyType};
/// use pyo3_sync::{PyMutex, ModuleData};
/// use std::collections::HashMap;
///
/// struct MyState {
///     parse_error: Py<PyType>,
///     cache: PyMutex<HashMap<String, Py<PyAny>>>,
/// }
///
/// impl ModuleData for MyState {
///     fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
///         visit.call(&self.parse_error)?;
///         for object in self.cache.traverse(visit).into_iter().flat_map(HashMap::values) {
///             visit.call(object)?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait ModuleData: Send + Sync + 'static {
    /// Visits every Python object that the state owns, as `__traverse__` of a class does.
    ///
    /// [Exactly one owner](crate::PyMutex#one-owner) may visit an object. Do not visit objects that
    /// the state shares, behind an `Arc`, with an instance of a class or with another state.
    ///
    /// # Errors
    ///
    /// Must return an error of `visit.call` immediately.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let _ = visit;
        Ok(())
    }

    /// Breaks reference cycles. Called once, before the state is dropped, when it has no readers.
    ///
    /// Rarely needed: dropping the state breaks cycles through the module. Implement it if the
    /// state refers to objects in a cycle of their own that the collector cannot break, such as
    /// instances of a `#[pyclass]` with `__traverse__` but without `__clear__`.
    fn clear(&self, py: Python<'_>) {
        let _ = py;
    }
}

/// The state of an extension module: one value for each module object.
///
/// A state is initialized with its module and dropped with it. In contrast, a static has one value
/// for the process and is never freed. A module that is imported a second time, by a test or by a
/// program that reloads plug-ins, finds the classes, caches and settings of the first one in the
/// static. CPython recommends module state instead ([PEP 630]).
///
/// # Examples
///
/// ```
/// use pyo3::{prelude::*, types::PyString};
/// use pyo3_sync::{ModuleState, PyMutex, ModuleData};
///
/// struct Greeter {
///     greeting: Py<PyString>,
///     names: PyMutex<Vec<String>>,
/// }
///
/// impl ModuleData for Greeter {}
///
/// static STATE: ModuleState<Greeter> = ModuleState::new();
///
/// #[pymodule(gil_used = false)]
/// mod greetings {
///     use super::*;
///
///     #[pymodule_init]
///     fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
///         let py = module.py();
///         STATE.init(module, || {
///             Ok(Greeter {
///                 greeting: PyString::intern(py, "hello").unbind(),
///                 names: PyMutex::default(),
///             })
///         })?;
///         Ok(())
///     }
///
///     /// A function that takes the module uses the state of that module.
///     #[pyfunction(pass_module)]
///     fn greet(module: &Bound<'_, PyModule>, name: String) -> PyResult<String> {
///         let (py, state) = (module.py(), STATE.get(module)?);
///         let greeting = format!("{} {name}", state.greeting.bind(py));
///         state.names.lock_checked(py)?.push(name);
///         Ok(greeting)
///     }
///
///     #[pyclass(frozen)]
///     struct Guest;
///
///     #[pymethods]
///     impl Guest {
///         /// PyO3 classes do not refer to a module: they use the only state.
///         #[staticmethod]
///         fn number(py: Python<'_>) -> PyResult<usize> {
///             Ok(STATE.find(py)?.names.lock_checked(py)?.len())
///         }
///     }
/// }
/// # fn main() -> PyResult<()> {
/// #     Python::initialize();
/// #     Python::attach(|py| -> PyResult<()> {
/// #         let module = pyo3::wrap_pymodule!(greetings)(py);
/// #         assert_eq!(module.call_method1(py, "greet", ("Ada",))?.to_string(), "hello Ada");
/// #         assert_eq!(module.getattr(py, "Guest")?.call_method0(py, "number")?.to_string(), "1");
/// #         Ok(())
/// #     })
/// # }
/// ```
///
/// # Finding the state
///
/// | available | method |
/// |---|---|
/// | the module: `#[pyfunction(pass_module)]`, `#[pymodule_init]` | [`get`](Self::get) |
/// | a submodule with the state of its parent | [`get`](Self::get), after [`share`](Self::share) |
/// | a class created by `PyType_FromModuleAndSpec`, or a subclass | [`of_type`](Self::of_type) |
/// | only a token: methods of PyO3 classes, `Drop`, callbacks | [`find`](Self::find) |
///
/// PyO3 creates its classes once for the process, without a reference to a module. So
/// [`find`](Self::find) works only while there is one state.
///
/// # What to store in the state
///
/// | content | field type | visited by |
/// |---|---|---|
/// | imported type or function | [`PyImport`] | [`PyImport::traverse`] |
/// | class created in [`init`](Self::init) | `Py<PyType>` | `visit.call(&self.class)` |
/// | class created on first use | [`PyOnceLock<Py<PyType>>`] | [`PyOnceLock::traverse`] |
/// | interned string | `Py<PyString>`, by `PyString::intern` | not necessary |
/// | cache | [`PyMutex<HashMap<_, Py<_>>>`] | [`PyMutex::traverse`] |
/// | settings read once | [`PyOnceLock<Settings>`] or plain fields | not necessary |
///
/// [`PyImport`]: crate::PyImport
/// [`PyImport::traverse`]: crate::PyImport::traverse
/// [`PyMutex<HashMap<_, Py<_>>>`]: crate::PyMutex
/// [`PyMutex::traverse`]: crate::PyMutex::traverse
/// [`PyOnceLock<Py<PyType>>`]: crate::PyOnceLock
/// [`PyOnceLock<Settings>`]: crate::PyOnceLock
///
/// `examples/module_state` contains all of these.
///
/// # Lifetime
///
/// An object in the dictionary of the module owns the state. An attached thread drops the state
/// with that object: when the module was removed from `sys.modules` and collected, or when the
/// interpreter shuts down and clears the module. Once the collector has found the object
/// unreachable, lookups no longer find the state.
///
/// A [`StateRef`] keeps the state, unchanged, until it is dropped. Dropping a `StateRef` may
/// therefore drop the state.
///
/// - Objects that outlive their module find no state. Instances of PyO3 classes can: such a class
///   does not keep its module alive, as classes created in C do.
/// - A module that a finalizer resurrects has lost its state.
///   [`get_or_try_init`](Self::get_or_try_init) can create a new one.
/// - An import that fails after the state was initialized leaves a module until it is collected. In
///   an initializer that may fail, initialize the state last.
/// - An unreachable module counts until it is collected. So [`find`](Self::find) runs a collection
///   before it reports several modules. It spends one second on collections, and after that at most
///   2 % of the time.
/// - The inline form of `#[pymodule]` adds items before it runs `#[pymodule_init]`: initializers of
///   submodules and a `#[classattr]` find no state.
/// - PyO3 0.26 and 0.27 return the same module object from a second import, and keep it forever:
///   there is one state, until the interpreter clears the module. Since 0.28, each import creates a
///   module object with a state of its own.
/// - In a forked child, a state that another thread was reading at the fork is never dropped.
///
/// A state belongs to a module, not to an interpreter. An extension with a `ModuleState` must not
/// be used in two interpreters of a process, see
/// [`ensure_single_interpreter`](crate::ensure_single_interpreter).
///
/// # Performance
///
/// A lookup of the state of the only module costs a few loads and stores. The stores go to memory
/// of the calling thread, so threads do not slow each other down. On free-threaded Python without
/// `membarrier`, a lookup and the drop of its `StateRef` execute a full memory barrier each. With
/// several modules, a lookup scans the list of states. The state of a module that
/// [shares](Self::share) it is looked up in the dictionary of that module.
///
/// A `StateRef` is not reference-counted. It is recorded in a slot of its thread, and the thread
/// that drops the state scans the slots of all threads.
///
/// [PEP 630]: https://peps.python.org/pep-0630/
pub struct ModuleState<T: ModuleData> {
    records: Records<T>,
    /// The key of the holder in the dictionary of each module.
    key: PyOnceLock<Py<PyString>>,
    collector: Collector,
}

impl<T: ModuleData> ModuleState<T> {
    /// Creates a container without states, for use in a `static`.
    pub const fn new() -> Self {
        ModuleState {
            records: Records::new(),
            key: PyOnceLock::new(),
            collector: Collector::new(),
        }
    }

    /// Initializes the state of a module with `f`.
    ///
    /// Call it in the initializer of the module, and return its error, so that the import fails and
    /// can be repeated. `f` runs attached. It must not access the state.
    ///
    /// # Errors
    ///
    /// Returns the error of `f`, a `RuntimeError` if the module already has a state, or an error of
    /// [`get_or_try_init`](Self::get_or_try_init).
    #[track_caller]
    pub fn init<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        f: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<StateRef<'py, T>> {
        let mut f = Some(f);
        let state = self.get_or_try_init(module, || f.take().expect("called once")())?;
        match f {
            None => Ok(state),
            Some(_) => Err(PyRuntimeError::new_err(format!(
                "the module {} has its state {} already",
                name_of(module),
                type_name::<T>()
            ))),
        }
    }

    /// Returns the state of a module, initializing it with `f` first if necessary.
    ///
    /// If several threads call this method before the state is initialized, one of them runs its
    /// `f`. The other threads block, detached, as for a [`PyOnceLock`](crate::PyOnceLock).
    ///
    /// # Errors
    ///
    /// Returns the error of `f`, after which the next thread runs its own `f`. Returns a
    /// [`DeadlockError`](crate::DeadlockError) if the wait would never end, for example if `f`
    /// accesses the same state. Returns the exception that a signal handler raised during the wait.
    #[track_caller]
    pub fn get_or_try_init<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        f: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<StateRef<'py, T>> {
        match self.records.of(module) {
            Some(reading) => Ok(StateRef(reading)),
            None => exception_aside(module.py(), || self.make(module, f)),
        }
    }

    #[cold]
    #[track_caller]
    fn make<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        f: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<StateRef<'py, T>> {
        let dictionary = dictionary_of(module).ok_or_else(|| self.not_in(module))?;
        let holder = match self.look_up(&dictionary)? {
            Found::Holder(holder) => holder,
            _ => self.enter(module, Holder::new(&self.records, module)?)?,
        };
        let content = self.content_of(&holder)?;
        content.state.cell().get_or_try_init_py(module.py(), f)?;
        content.state.go_live();
        let reading = content.state.read(module.py());
        reading.map(StateRef).ok_or_else(|| self.not_in(module))
    }

    /// Inserts a holder into the dictionary of a module unless it has one. Returns the one it has.
    ///
    /// One of several threads succeeds, because each step is one atomic operation. A lookup and an
    /// insertion in a critical section would not be atomic: each of them can suspend the section.
    fn enter<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        holder: Bound<'py, Holder>,
    ) -> PyResult<Bound<'py, Holder>> {
        let py = module.py();
        let dictionary = dictionary_of(module).ok_or_else(|| self.not_in(module))?;
        let key = self.key(py);
        let entered = dictionary.call_method1(intern!(py, "setdefault"), (key, &holder))?;
        match self.current(entered)? {
            Found::Holder(first) => Ok(first),
            Found::Condemned(old) => {
                // So a chain of successors ends: none was condemned before its predecessor.
                if self.content_of(&holder)?.state.is_condemned() {
                    return Err(self.not_in(module));
                }
                let successor = &self.content_of(&old)?.successor;
                let successor = successor.get_or_init(py, || holder.unbind()).bind(py);
                // Other threads may store the same holder, or a predecessor, which leads to it.
                dictionary.set_item(key, successor)?;
                Ok(successor.clone())
            }
            Found::Nothing | Found::Cleared => Err(self.not_in(module)),
        }
    }

    /// Returns the state of a module.
    ///
    /// # Errors
    ///
    /// Returns a `RuntimeError` if the module has no state: it belongs to another extension, is not
    /// initialized, or was cleared.
    #[inline]
    pub fn get<'py>(&'static self, module: &Bound<'py, PyModule>) -> PyResult<StateRef<'py, T>> {
        match self.records.latest_of(module) {
            Some(reading) => Ok(StateRef(reading)),
            None => self.get_slow(module),
        }
    }

    #[cold]
    fn get_slow<'py>(&'static self, module: &Bound<'py, PyModule>) -> PyResult<StateRef<'py, T>> {
        let reading = match self.records.of(module) {
            Some(reading) => reading,
            None => exception_aside(module.py(), || {
                let reading = self.reading_of(module)?;
                reading.ok_or_else(|| self.not_in(module))
            })?,
        };
        Ok(StateRef(reading))
    }

    /// Returns the state of a module, its own or a shared one.
    fn reading_of<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
    ) -> PyResult<Option<Reading<'py, T>>> {
        if let Some(reading) = self.records.of(module) {
            return Ok(Some(reading));
        }
        let Some(dictionary) = dictionary_of(module) else {
            return Ok(None);
        };
        match self.look_up(&dictionary)? {
            Found::Holder(holder) => Ok(self.content_of(&holder)?.state.read(module.py())),
            Found::Nothing | Found::Cleared | Found::Condemned(_) => Ok(None),
        }
    }

    /// Returns the state of the only module that has one.
    ///
    /// For code without access to a module. Unambiguous as long as the extension is imported once.
    ///
    /// # Errors
    ///
    /// Returns a `RuntimeError` if there is no state, because the extension was not imported or its
    /// module was cleared, or if there are several.
    #[inline]
    pub fn find<'py>(&'static self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        match self.records.latest_and_only(py) {
            Some(reading) => Ok(StateRef(reading)),
            None => self.find_slow(py),
        }
    }

    #[cold]
    fn find_slow<'py>(&'static self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        exception_aside(py, || {
            let mut found = self.records.only(py);
            // An unreachable module counts until it is collected, as after a failed import.
            if matches!(found, Err(NotOne::Several(_))) && self.collector.run(py) {
                found = self.records.only(py);
            }
            match found {
                Ok(reading) => Ok(StateRef(reading)),
                Err(reason) => Err(self.not_one(py, reason)),
            }
        })
    }

    /// Returns the state of the module that a class belongs to.
    ///
    /// A class created by `PyType_FromModuleAndSpec` refers to its module, and so do its
    /// subclasses, including subclasses in Python. For other classes, such as PyO3's, this method
    /// is the same as [`find`](Self::find). With the stable ABI of Python 3.9 it always is, because
    /// that ABI cannot return the module of a class.
    ///
    /// # Errors
    ///
    /// Returns an error where [`find`](Self::find) does. Returns a `RuntimeError` if the class or a
    /// base refers to a module, but none of these modules has a state.
    pub fn of_type<'py>(&'static self, class: &Bound<'py, PyType>) -> PyResult<StateRef<'py, T>> {
        exception_aside(class.py(), || {
            // Not a tuple while the class is being created, or after the collector has cleared it.
            let bases = class.getattr("__mro__")?.cast_into::<PyTuple>().ok();
            let mut without = None;
            for base in bases.iter().flatten() {
                let Some(module) = base.cast::<PyType>().ok().and_then(module_of_type) else {
                    continue;
                };
                let Ok(module) = module.cast::<PyModule>() else {
                    continue;
                };
                if let Some(reading) = self.reading_of(&module)? {
                    return Ok(StateRef(reading));
                }
                without.get_or_insert_with(|| module.to_owned());
            }
            match without {
                Some(module) => Err(self.not_in(&module)),
                None => self.find(class.py()),
            }
        })
    }

    /// Shares the state of `module` with another module, such as a submodule.
    ///
    /// # Examples
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::{ModuleState, ModuleData};
    ///
    /// struct Settings {
    ///     limit: u64,
    /// }
    ///
    /// impl ModuleData for Settings {}
    ///
    /// static STATE: ModuleState<Settings> = ModuleState::new();
    ///
    /// #[pymodule]
    /// fn my_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    ///     STATE.init(module, || Ok(Settings { limit: 10 }))?;
    ///     let inner = PyModule::new(module.py(), "inner")?;
    ///     STATE.share(module, &inner)?;
    ///     inner.add_function(wrap_pyfunction!(limit, &inner)?)?;
    ///     module.add_submodule(&inner)
    /// }
    ///
    /// #[pyfunction(pass_module)]
    /// fn limit(inner: &Bound<'_, PyModule>) -> PyResult<u64> {
    ///     Ok(STATE.get(inner)?.limit)
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| -> PyResult<()> {
    /// #     let module = pyo3::wrap_pymodule!(my_extension)(py);
    /// #     assert_eq!(module.getattr(py, "inner")?.call_method0(py, "limit")?.to_string(), "10");
    /// #     Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a `RuntimeError` if `module` has no state, or if `with` has another state.
    pub fn share(
        &'static self,
        module: &Bound<'_, PyModule>,
        with: &Bound<'_, PyModule>,
    ) -> PyResult<()> {
        exception_aside(module.py(), || {
            let dictionary = dictionary_of(module).ok_or_else(|| self.not_in(module))?;
            let holder = match self.look_up(&dictionary)? {
                Found::Holder(holder)
                    if self.content_of(&holder)?.state.cell().is_initialized() =>
                {
                    holder
                }
                _ => return Err(self.not_in(module)),
            };
            if self.enter(with, holder.clone())?.is(&holder) {
                return Ok(());
            }
            Err(PyRuntimeError::new_err(format!(
                "the module {} has a state {} of its own",
                name_of(with),
                type_name::<T>()
            )))
        })
    }

    /// Returns the key of the holder in the dictionary of a module.
    fn key<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let key = self.key.get_or_init(py, || {
            // A module may have two states of one type. Relaxed: only the number counts.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let key = format!("__pyo3_sync_state_{number}__: {}", type_name::<T>());
            PyString::intern(py, &key).unbind()
        });
        key.bind(py)
    }

    /// Looks up the holder in the dictionary of a module.
    fn look_up<'py>(&'static self, dictionary: &Bound<'py, PyDict>) -> PyResult<Found<'py>> {
        match dictionary.get_item(self.key(dictionary.py()))? {
            Some(found) => self.current(found),
            None => Ok(Found::Nothing),
        }
    }

    /// Returns the current holder for an object from the dictionary: itself or its last successor.
    fn current<'py>(&'static self, found: Bound<'py, PyAny>) -> PyResult<Found<'py>> {
        if found.is_none() {
            return Ok(Found::Cleared);
        }
        let mut holder = found.cast_into::<Holder>().map_err(|_| exchanged())?;
        loop {
            let content = self.content_of(&holder)?;
            if !content.state.is_condemned() {
                return Ok(Found::Holder(holder));
            }
            let Some(successor) = content.successor.peek() else {
                return Ok(Found::Condemned(holder));
            };
            holder = successor.bind(holder.py()).clone();
        }
    }

    fn content_of<'a>(&'static self, holder: &'a Bound<'_, Holder>) -> PyResult<&'a Content<T>> {
        holder.get().content(&self.records).ok_or_else(exchanged)
    }

    #[cold]
    fn not_in(&'static self, module: &Bound<'_, PyModule>) -> PyErr {
        let found = dictionary_of(module).map(|dictionary| self.look_up(&dictionary));
        let why = match found {
            _ if is_finalizing(module.py()) => {
                "the interpreter is shutting down, and the module was cleared"
            }
            Some(Ok(Found::Condemned(_))) => {
                "the garbage collector found the module unreachable \
                 and ended its state, before something made it reachable again"
            }
            Some(Ok(Found::Holder(_))) => "its initialiser has not made the state yet",
            _ => {
                "it is not a module of this extension, \
                 or its initialiser has not made the state, or it was cleared"
            }
        };
        PyRuntimeError::new_err(format!(
            "the module {} has no state {}: {why}",
            name_of(module),
            type_name::<T>()
        ))
    }

    #[cold]
    fn not_one(&self, py: Python<'_>, reason: NotOne) -> PyErr {
        let name = type_name::<T>();
        PyRuntimeError::new_err(match reason {
            NotOne::None if is_finalizing(py) => format!(
                "there is no state {name} any more: \
                 the interpreter is shutting down, and the module was cleared"
            ),
            NotOne::None => format!(
                "there is no state {name}: \
                 the extension was not imported, or its module was cleared"
            ),
            NotOne::Several(number) => format!(
                "there are {number} modules with a state {name}, and nothing here says which one \
                 is meant: ask with the module (`get`) or a handle (`StateHandle`), \
                 or import the extension once"
            ),
        })
    }
}

/// The result of a lookup in the dictionary of a module.
enum Found<'py> {
    Nothing,
    /// `None`, which the interpreter stores when it clears a module.
    Cleared,
    /// A holder with a condemned state, in a resurrected module.
    Condemned(Bound<'py, Holder>),
    Holder(Bound<'py, Holder>),
}

#[cold]
fn exchanged() -> PyErr {
    PyRuntimeError::new_err(
        "something else was put in the place of a state in the dictionary of a module",
    )
}

/// Returns the dictionary of a module, or `None` after the collector has cleared the module.
fn dictionary_of<'py>(module: &Bound<'py, PyModule>) -> Option<Bound<'py, PyDict>> {
    // SAFETY:
    // - The `Bound` proves that the thread is attached, and that the object is a module.
    // - The dictionary is a borrowed reference, which `Bound` increments.
    let dictionary = unsafe {
        let dictionary = ffi::PyModule_GetDict(module.as_ptr());
        Bound::from_borrowed_ptr_or_opt(module.py(), dictionary)?
    };
    dictionary.cast_into().ok()
}

/// Returns the name of a module for error messages. The module may have been cleared.
fn name_of(module: &Bound<'_, PyModule>) -> String {
    let name = dictionary_of(module).and_then(|its| its.get_item("__name__").ok().flatten());
    name.map_or_else(|| "<unnamed>".to_owned(), |name| format!("{name:?}"))
}

impl<T: ModuleData> Default for ModuleState<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Formats the type of the state.
impl<T: ModuleData> fmt::Debug for ModuleState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleState<{}>", type_name::<T>())
    }
}

/// A reference to the state of a module, returned by the methods of [`ModuleState`].
///
/// The state is not dropped before the reference, even if the module is.
///
/// # Examples
///
/// A closure that runs detached borrows the data, not the reference:
///
/// ```
/// # use pyo3::prelude::*;
/// # use pyo3_sync::{ModuleState, ModuleData};
/// # struct Index(Vec<u64>);
/// # impl ModuleData for Index {}
/// static STATE: ModuleState<Index> = ModuleState::new();
///
/// #[pyfunction]
/// fn total(py: Python<'_>) -> PyResult<u64> {
///     let state = STATE.find(py)?;
///     let index = &state.0;
///     Ok(py.detach(|| index.iter().sum()))
/// }
/// ```
///
/// # Leaks
///
/// If a `StateRef` is leaked, for example by [`std::mem::forget`], the state is never dropped.
pub struct StateRef<'py, T: ModuleData>(Reading<'py, T>);

impl<T: ModuleData> StateRef<'_, T> {
    /// Returns a handle to the same state, for storage in objects.
    pub fn handle(&self) -> StateHandle<T> {
        StateHandle(self.0.place())
    }
}

impl<T: ModuleData> Deref for StateRef<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0.state()
    }
}

impl<T: ModuleData + fmt::Debug> fmt::Debug for StateRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A weak reference to the state of a module, from [`StateRef::handle`].
///
/// A handle owns nothing. It is `Copy` and may be stored anywhere. It is for methods of PyO3
/// classes, which do not refer to a module, in extensions where [`ModuleState::find`] may be
/// ambiguous.
///
/// # Examples
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{ModuleData, ModuleState, StateHandle};
///
/// struct Settings {
///     limit: u64,
/// }
///
/// impl ModuleData for Settings {}
///
/// static STATE: ModuleState<Settings> = ModuleState::new();
///
/// #[pyclass(frozen)]
/// struct Parser {
///     settings: StateHandle<Settings>,
/// }
///
/// #[pymethods]
/// impl Parser {
///     fn limit(&self, py: Python<'_>) -> PyResult<u64> {
///         Ok(self.settings.get(py)?.limit)
///     }
/// }
///
/// /// Creates a parser with the settings of this module.
/// #[pyfunction(pass_module)]
/// fn parser(module: &Bound<'_, PyModule>) -> PyResult<Parser> {
///     let settings = STATE.get(module)?.handle();
///     Ok(Parser { settings })
/// }
/// # Python::initialize();
/// # Python::attach(|py| -> PyResult<()> {
/// #     let module = PyModule::new(py, "m")?;
/// #     STATE.init(&module, || Ok(Settings { limit: 10 }))?;
/// #     assert_eq!(parser(&module)?.limit(py)?, 10);
/// #     Ok(())
/// # }).unwrap();
/// ```
pub struct StateHandle<T: ModuleData>(Place<T>);

impl<T: ModuleData> StateHandle<T> {
    /// Returns the state.
    ///
    /// # Errors
    ///
    /// Returns a `RuntimeError` if the module was cleared or collected.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        match self.0.read(py) {
            Some(reading) => Ok(StateRef(reading)),
            None => Err(gone::<T>()),
        }
    }
}

#[cold]
fn gone<T>() -> PyErr {
    PyRuntimeError::new_err(format!(
        "the state {} is gone: its module was cleared or collected",
        type_name::<T>()
    ))
}

impl<T: ModuleData> Clone for StateHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ModuleData> Copy for StateHandle<T> {}

impl<T: ModuleData> fmt::Debug for StateHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHandle<{}>", type_name::<T>())
    }
}

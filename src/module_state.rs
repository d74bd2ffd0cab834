//! [`ModuleState`]: state that belongs to a module object.

mod collector;
mod holder;
mod record;

use std::{
    any::type_name,
    fmt,
    marker::PhantomData,
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
    build_config::module_of_type,
    wait::{exception_aside, is_finalizing},
};

/// What a module can have as its state: says how the garbage collector sees it.
///
/// Both methods have defaults, which do for a state without Python objects, and for one whose objects cannot lead back to the
/// module. An object that does, and is not visited, keeps the module alive for ever: a class made at run time, a function of the
/// module, an instance of such a class.
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
    /// Visits every Python object that the state owns, as `__traverse__` of a class does. There is
    /// no token.
    ///
    /// [Exactly one owner](crate::PyMutex#one-owner) may visit an object: not what the state shares
    /// with an object of a class, or with another state, behind an `Arc`.
    ///
    /// # Errors
    ///
    /// Passes on the error of `visit.call`, at once.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let _ = visit;
        Ok(())
    }

    /// Lets go of Python objects by other means than dropping them. Called once, right before the state is dropped, when nobody uses
    /// it any more.
    ///
    /// Rarely needed: the cycle that goes through the module comes apart without it. It is for objects that the state leads to, which are in
    /// a cycle of their own that the collector cannot break: a class of yours that has a `__traverse__` and no `__clear__`.
    fn clear(&self, py: Python<'_>) {
        let _ = py;
    }
}

/// A state of an extension module: made with the module object, separate for each, and dropped with it.
///
/// A static has one value for the process, whichever modules use it, for ever. A module object that is imported a second time
/// (by a test, or a program that reloads its plug-ins) finds there the classes, caches and settings of the first; and what a static
/// refers to is never freed. A state is CPython's own advice instead ([PEP 630]).
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
///     /// A function that takes the module asks for the state of that module.
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
///         /// Classes of PyO3 know no module: they ask for the only state there is.
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
/// # Which module
///
/// | you have | use |
/// |---|---|
/// | the module: `#[pyfunction(pass_module)]`, `#[pymodule_init]` | [`get`](Self::get) |
/// | a submodule that has the state of its parent | [`get`](Self::get), after [`share`](Self::share) |
/// | a class that was made with a module (`PyType_FromModuleAndSpec`), or one derived from it | [`of_type`](Self::of_type) |
/// | only a token: methods of PyO3's classes, `Drop`, callbacks | [`find`](Self::find) |
///
/// PyO3's own classes are one for the process, whatever modules they are in, and know none of them. So [`find`](Self::find) can only say
/// which state is meant while there is one.
///
/// # What to keep in it
///
/// | what | as | visited by |
/// |---|---|---|
/// | an imported type or function | [`PyImport`](crate::PyImport), a field | [`PyImport::traverse`](crate::PyImport::traverse) |
/// | an exception class, or another class, made by [`init`](Self::init) | `Py<PyType>` | `visit.call(&self.class)` |
/// | a class made when first needed | [`PyOnceLock<Py<PyType>>`](crate::PyOnceLock) | [`PyOnceLock::traverse`](crate::PyOnceLock::traverse) |
/// | an interned string | `Py<PyString>`, by `PyString::intern` | nothing: a string refers to nothing |
/// | a cache | [`PyMutex<HashMap<_, Py<_>>>`](crate::PyMutex) | [`PyMutex::traverse`](crate::PyMutex::traverse) |
/// | settings that are read once | [`PyOnceLock<Settings>`](crate::PyOnceLock) or plain fields | nothing |
///
/// `examples/module_state` has all of them.
///
/// # How long it lives
///
/// The state belongs to an object in the module's dictionary. It is dropped, by an attached thread, when that object is: when the
/// module was removed from `sys.modules` and collected, or when the interpreter shuts down and clears the module. From the moment at which
/// the collector finds it unreachable it is not found any more. Whoever has a [`StateRef`] then keeps the state, unchanged, until
/// that is dropped; so a `StateRef` that is dropped, in the middle of your code, may be what drops the state.
///
/// - Objects that outlive their module find no state. Instances of PyO3's classes may: such a class does not keep its module, as
///   classes made in C do.
/// - A module that a finaliser brings back to life after the collector has found it unreachable has lost its state, and can be
///   given a new one, by [`get_or_try_init`](Self::get_or_try_init).
/// - An import that fails after its state was made leaves a module behind that lives until it is collected. Make the state last in an
///   initialiser that may fail.
/// - A module that is unreachable counts until it is collected. So [`find`](Self::find) runs a
///   collection before it reports that there are several modules. It spends one second on
///   collections, and after that at most 2 % of the time.
/// - In the inline form of `#[pymodule]` items are added before `#[pymodule_init]` runs: initialisers of submodules and a `#[classattr]`
///   find no state yet.
/// - With PyO3 0.26 and 0.27 a second import gives the same module object again, which PyO3 keeps for ever: then there is one state,
///   which lives until the interpreter clears the module. From 0.28 on each import makes a module object of its own, with a state of
///   its own.
/// - In the child of a fork, a state that other threads were using when the process was forked is never dropped.
///
/// All of this is about one interpreter: a state is a module's, not an interpreter's. An extension with a `ModuleState` must not be
/// used in two interpreters of a process, as told at [`ensure_single_interpreter`](crate::ensure_single_interpreter).
///
/// # Cost
///
/// Getting at the state of the only module costs a few loads and stores, to memory of the thread's own, so that threads do not slow each
/// other down. (With free threading, and where the system cannot fence all threads at once as Linux can, one of the stores is an
/// atomic exchange.) With several modules each look goes through the list of them, and a module that shares the state of another one is
/// looked up in its dictionary.
///
/// A `StateRef` is no counted reference, which all threads would write to. It is entered in a slot of its thread's, and the state's end looks
/// through the slots.
///
/// [PEP 630]: https://peps.python.org/pep-0630/
pub struct ModuleState<T: ModuleData> {
    records: Records<T>,
    /// The name under which the dictionaries of modules have theirs.
    key: PyOnceLock<Py<PyString>>,
    collector: Collector,
}

impl<T: ModuleData> ModuleState<T> {
    /// A place for states, to be a `static`.
    pub const fn new() -> Self {
        ModuleState {
            records: Records::new(),
            key: PyOnceLock::new(),
            collector: Collector::new(),
        }
    }

    /// Makes the state of a module, in the module's initialiser. If `f` fails, return its error, and the import fails with that; it can be
    /// tried again.
    ///
    /// `f` runs attached and may do as it likes, but ask for the state.
    ///
    /// # Errors
    ///
    /// That of `f`. A `RuntimeError` if the module has its state already.
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

    /// The state of a module; if it has none, `f` makes it.
    ///
    /// Of all threads that arrive before it is made one runs its `f`, and the others wait for it, detached, as for a
    /// [`PyOnceLock`](crate::PyOnceLock).
    ///
    /// # Errors
    ///
    /// That of `f`, after which the next thread runs its own. A [`DeadlockError`](crate::DeadlockError), for one if `f` asks for the same
    /// state. What a signal handler raised while this thread waited.
    #[track_caller]
    pub fn get_or_try_init<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        f: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<StateRef<'py, T>> {
        match self.records.of(module) {
            Some(reading) => Ok(StateRef::new(reading, module.py())),
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
        content.cell().get_or_try_init_py(module.py(), f)?;
        self.records.go_live(content.place);
        let reading = content.place.read();
        reading
            .map(|reading| StateRef::new(reading, module.py()))
            .ok_or_else(|| self.not_in(module))
    }

    /// Enters a holder in the dictionary of a module, unless the module has one. Returns the holder
    /// of the module.
    ///
    /// Of several threads, one succeeds, because each step is one atomic operation. A lookup and an
    /// insertion in a critical section are not atomic: each of the two can suspend the section.
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
                // Not condemned after `old` was: so a chain of successors has an end.
                if self.content_of(&holder)?.place.is_condemned() {
                    return Err(self.not_in(module));
                }
                let successor = &self.content_of(&old)?.successor;
                let successor = successor.get_or_init(py, || holder.unbind()).bind(py);
                // Other threads may do the same, or be late and enter an older holder, which leads
                // to this one.
                dictionary.set_item(key, successor)?;
                Ok(successor.clone())
            }
            Found::Nothing | Found::Cleared => Err(self.not_in(module)),
        }
    }

    /// The state of a module.
    ///
    /// # Errors
    ///
    /// A `RuntimeError` if it has none: if it is another extension's, has not been initialised, or was cleared.
    #[inline]
    pub fn get<'py>(&'static self, module: &Bound<'py, PyModule>) -> PyResult<StateRef<'py, T>> {
        match self.records.latest_of(module) {
            Some(reading) => Ok(StateRef::new(reading, module.py())),
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
        Ok(StateRef::new(reading, module.py()))
    }

    /// The state that was made for a module, or shared with it.
    fn reading_of(&'static self, module: &Bound<'_, PyModule>) -> PyResult<Option<Reading<T>>> {
        if let Some(reading) = self.records.of(module) {
            return Ok(Some(reading));
        }
        let Some(dictionary) = dictionary_of(module) else {
            return Ok(None);
        };
        match self.look_up(&dictionary)? {
            Found::Holder(holder) => Ok(self.content_of(&holder)?.place.read()),
            Found::Nothing | Found::Cleared | Found::Condemned(_) => Ok(None),
        }
    }

    /// The state of the only module that has one.
    ///
    /// For code that knows no module. As long as the extension is imported once, that is the state that is meant.
    ///
    /// # Errors
    ///
    /// A `RuntimeError` if there is none, because the extension was not imported or its module was cleared; or if there are several.
    #[inline]
    pub fn find<'py>(&'static self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        match self.records.latest_and_only() {
            Some(reading) => Ok(StateRef::new(reading, py)),
            None => self.find_slow(py),
        }
    }

    #[cold]
    fn find_slow<'py>(&'static self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        exception_aside(py, || {
            let mut found = self.records.only();
            // An unreachable module counts until it is collected, as after a failed import.
            if matches!(found, Err(NotOne::Several(_))) && self.collector.run(py) {
                found = self.records.only();
            }
            match found {
                Ok(reading) => Ok(StateRef::new(reading, py)),
                Err(reason) => Err(self.not_one(py, reason)),
            }
        })
    }

    /// The state of the module that a class belongs to.
    ///
    /// A class knows its module if it was made with one, by `PyType_FromModuleAndSpec`; so does a class that is derived from such a one, in
    /// Python too. Others, PyO3's own among them, do not: then this is [`find`](Self::find). (So it is for all of them where the stable ABI
    /// of Python 3.9 is used, which cannot ask.)
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find); and a `RuntimeError` if the class or one of its bases knows its module, and none of these modules has a
    /// state.
    pub fn of_type<'py>(&'static self, class: &Bound<'py, PyType>) -> PyResult<StateRef<'py, T>> {
        exception_aside(class.py(), || {
            // A tuple, but for classes that are still being made, or were taken apart by the collector.
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
                    return Ok(StateRef::new(reading, class.py()));
                }
                without.get_or_insert_with(|| module.to_owned());
            }
            match without {
                Some(module) => Err(self.not_in(&module)),
                None => self.find(class.py()),
            }
        })
    }

    /// Gives a module the state of another one: a submodule that of its parent.
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
    /// As [`get`](Self::get), if `module` has no state. A `RuntimeError` if `with` has another one.
    pub fn share(
        &'static self,
        module: &Bound<'_, PyModule>,
        with: &Bound<'_, PyModule>,
    ) -> PyResult<()> {
        exception_aside(module.py(), || {
            let dictionary = dictionary_of(module).ok_or_else(|| self.not_in(module))?;
            let holder = match self.look_up(&dictionary)? {
                Found::Holder(holder) if self.content_of(&holder)?.cell().is_initialized() => {
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

    /// The name under which a module's dictionary has the holder.
    fn key<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let key = self.key.get_or_init(py, || {
            // Relaxed: the number stands for itself. Two states of one type may be in one module.
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

    /// The holder that an object from the dictionary of a module stands for: itself, or the last of
    /// its successors.
    fn current<'py>(&'static self, found: Bound<'py, PyAny>) -> PyResult<Found<'py>> {
        if found.is_none() {
            return Ok(Found::Cleared);
        }
        let mut holder = found.cast_into::<Holder>().map_err(|_| exchanged())?;
        loop {
            let content = self.content_of(&holder)?;
            if !content.place.is_condemned() {
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
                "the garbage collector found the module unreachable and ended its state, before something made it reachable again"
            }
            Some(Ok(Found::Holder(_))) => "its initialiser has not made the state yet",
            _ => {
                "it is not a module of this extension, or its initialiser has not made the state, or it was cleared"
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
                "there is no state {name} any more: the interpreter is shutting down, and the module was cleared"
            ),
            NotOne::None => format!(
                "there is no state {name}: the extension was not imported, or its module was cleared"
            ),
            NotOne::Several(number) => format!(
                "there are {number} modules with a state {name}, and nothing here says which one is meant: ask with the module \
                 (`get`) or a handle (`StateHandle`), or import the extension once"
            ),
        })
    }
}

/// What there may be under our name in the dictionary of a module.
enum Found<'py> {
    Nothing,
    /// `None`, which the interpreter leaves where it has cleared a module.
    Cleared,
    /// A holder whose state cannot be found any more, in a module that was resurrected.
    Condemned(Bound<'py, Holder>),
    Holder(Bound<'py, Holder>),
}

#[cold]
fn exchanged() -> PyErr {
    PyRuntimeError::new_err(
        "something else was put in the place of a state in the dictionary of a module",
    )
}

/// The dictionary of a module. There is none after the collector has cleared it.
fn dictionary_of<'py>(module: &Bound<'py, PyModule>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: attached, since there is a `Bound`, and it is a module. The dictionary is borrowed, and made a reference of our own.
    let dictionary = unsafe {
        let dictionary = ffi::PyModule_GetDict(module.as_ptr());
        Bound::from_borrowed_ptr_or_opt(module.py(), dictionary)?
    };
    dictionary.cast_into().ok()
}

/// The name of a module, for messages; it may have been cleared.
fn name_of(module: &Bound<'_, PyModule>) -> String {
    let name = dictionary_of(module).and_then(|its| its.get_item("__name__").ok().flatten());
    name.map_or_else(|| "<unnamed>".to_owned(), |name| format!("{name:?}"))
}

impl<T: ModuleData> Default for ModuleState<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows what type the states are of.
impl<T: ModuleData> fmt::Debug for ModuleState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleState<{}>", type_name::<T>())
    }
}

/// A reference to the state of a module, which keeps it: from [`ModuleState`].
///
/// The state is not dropped before this is, even if the module is. Where code detaches, lend what it needs:
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
/// If it is forgotten ([`std::mem::forget`]) the state is never dropped.
pub struct StateRef<'py, T: ModuleData> {
    reading: Reading<T>,
    /// Keeps this on its thread, attached: whoever drops the last one drops the state.
    _py: PhantomData<Python<'py>>,
}

impl<'py, T: ModuleData> StateRef<'py, T> {
    /// A handle to the same state, to be kept: in an object that a function of the module makes, for one.
    pub fn handle(&self) -> StateHandle<T> {
        StateHandle(self.reading.place())
    }

    #[inline(always)]
    fn new(reading: Reading<T>, _py: Python<'py>) -> Self {
        StateRef {
            reading,
            _py: PhantomData,
        }
    }
}

impl<T: ModuleData> Deref for StateRef<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.reading.state()
    }
}

impl<T: ModuleData + fmt::Debug> fmt::Debug for StateRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What a state can be found by again, without its module: from [`StateRef::handle`].
///
/// It owns nothing, and may be kept anywhere and copied: like a weak reference, it finds the state as long as there is one. It is for
/// the methods of PyO3's classes, which know no module, where [`ModuleState::find`] would not do because there may be several.
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
/// /// Makes a parser that has the settings of this module.
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
    /// The state.
    ///
    /// # Errors
    ///
    /// A `RuntimeError` if its module was cleared or collected.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<StateRef<'py, T>> {
        match self.0.read() {
            Some(reading) => Ok(StateRef::new(reading, py)),
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

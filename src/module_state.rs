//! [`ModuleState`]: state that belongs to a module object.

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
    prelude::*,
    pyclass::PyVisit,
    types::{PyTuple, PyType},
};

use self::{
    holder::{Content, Holder},
    record::{NotOne, Reading, Records},
};
use crate::{build_config::module_of_type, wait::is_finalizing};

/// What a module can have as its state: says how the garbage collector sees it.
///
/// Both methods have defaults, which do for a state without Python objects, and for one whose objects cannot lead back to the
/// module. An object that does, and is not visited, keeps the module alive for ever: a class made at run time, a function of the
/// module, an instance of such a class.
///
/// ```
/// use pyo3::{PyTraverseError, PyVisit, prelude::*, types::PyType};
/// use pyo3_sync::{PyMutex, State};
/// use std::collections::HashMap;
///
/// struct MyState {
///     parse_error: Py<PyType>,
///     cache: PyMutex<HashMap<String, Py<PyAny>>>,
/// }
///
/// impl State for MyState {
///     fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
///         visit.call(&self.parse_error)?;
///         for object in self.cache.traverse(visit).into_iter().flat_map(HashMap::values) {
///             visit.call(object)?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait State: Send + Sync + 'static {
    /// Visits every Python object that the state owns, as `__traverse__` of a class does. No token is to be had here.
    ///
    /// # Errors
    ///
    /// What `visit.call` gives, at once.
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
/// use pyo3_sync::{ModuleState, PyMutex, State};
///
/// struct Greeter {
///     greeting: Py<PyString>,
///     names: PyMutex<Vec<String>>,
/// }
///
/// impl State for Greeter {}
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
/// that is dropped.
///
/// With PyO3 0.26 and 0.27 a second import gives the same module object again, which PyO3 keeps for ever: then there is one state,
/// which lives until the interpreter clears the module. From 0.28 on each import makes a module object of its own, with a state of its own.
///
/// In the child of a fork, a state that other threads were using when the process was forked is never dropped.
///
/// # Cost
///
/// Getting at the state of the only module costs what reading a [`PyRwLock`](crate::PyRwLock) does: one atomic operation on memory of
/// the thread's own, so that threads do not slow each other down; a few loads and stores where there is a GIL. With several modules each
/// look goes through the list of them.
///
/// [PEP 630]: https://peps.python.org/pep-0630/
pub struct ModuleState<T: State> {
    records: Records<T>,
    /// A number of its own among all of the extension, or 0 before it has one: two states of one type may be in one module.
    number: AtomicU32,
    _owned: PhantomData<T>,
}

impl<T: State> ModuleState<T> {
    /// A place for states, to be a `static`.
    pub const fn new() -> Self {
        ModuleState {
            records: Records::new(),
            number: AtomicU32::new(0),
            _owned: PhantomData,
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
            None => self.make(module, f),
        }
    }

    #[cold]
    #[track_caller]
    fn make<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
        f: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<StateRef<'py, T>> {
        let holder = match self.holder_in(module)? {
            Some(holder) => holder,
            None => {
                let holder = Holder::new(&self.records, module)?;
                // Of several threads that come here, one is the first.
                let first = module
                    .dict()
                    .call_method1("setdefault", (self.key(), holder))?;
                first.cast_into()?
            }
        };
        let content = self.content_of(&holder)?;
        content.cell().get_or_try_init_py(module.py(), f)?;
        self.records.go_live(content.place);
        let reading = content.place.read();
        reading
            .map(|reading| StateRef::new(reading, module.py()))
            .ok_or_else(|| self.not_in(module))
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
            Some(reading) => Some(reading),
            // Perhaps one was shared with it.
            None => match self.holder_in(module)? {
                Some(holder) => self.content_of(&holder)?.place.read(),
                None => None,
            },
        };
        reading
            .map(|reading| StateRef::new(reading, module.py()))
            .ok_or_else(|| self.not_in(module))
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
        match self.records.only() {
            Ok(reading) => Ok(StateRef::new(reading, py)),
            Err(reason) => Err(self.not_one(py, reason)),
        }
    }

    /// The state of the module that a class belongs to.
    ///
    /// A class knows its module if it was made with one, by `PyType_FromModuleAndSpec`; so does a class that is derived from such a one, in
    /// Python too. Others, PyO3's own among them, do not: then this is [`find`](Self::find). (So it is for all of them where the stable ABI
    /// of Python 3.9 is used, which cannot ask.)
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) or [`find`](Self::find).
    pub fn of_type<'py>(&'static self, class: &Bound<'py, PyType>) -> PyResult<StateRef<'py, T>> {
        let bases: Bound<'_, PyTuple> = class.mro();
        for base in bases.iter() {
            let Some(module) = module_of_type(base.cast::<PyType>()?) else {
                continue;
            };
            // A base may belong to the module of another extension.
            if let Some(reading) = self.records.of(&module) {
                return Ok(StateRef::new(reading, class.py()));
            }
        }
        self.find(class.py())
    }

    /// Gives a module the state of another one: a submodule that of its parent.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::{ModuleState, State};
    ///
    /// struct Settings {
    ///     limit: u64,
    /// }
    ///
    /// impl State for Settings {}
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
        let holder = self.holder_in(module)?.ok_or_else(|| self.not_in(module))?;
        let stored = with
            .dict()
            .call_method1("setdefault", (self.key(), &holder))?;
        if stored.is(&holder) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "the module {} has a state {} of its own",
            name_of(with),
            type_name::<T>()
        )))
    }

    /// The name under which a module's dictionary has the holder.
    fn key(&self) -> String {
        format!(
            "__pyo3_sync_state_{}__: {}",
            self.number(),
            type_name::<T>()
        )
    }

    fn number(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Relaxed, here and below: the number stands for itself.
        match self.number.load(Ordering::Relaxed) {
            0 => {
                let mine = NEXT.fetch_add(1, Ordering::Relaxed);
                let stored =
                    self.number
                        .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed);
                stored.map_or_else(|first| first, |_| mine)
            }
            number => number,
        }
    }

    fn holder_in<'py>(
        &'static self,
        module: &Bound<'py, PyModule>,
    ) -> PyResult<Option<Bound<'py, Holder>>> {
        // The dictionary may have been cleared already, which leaves `None` behind.
        let found = module.dict().call_method1("get", (self.key(),))?;
        if found.is_none() {
            return Ok(None);
        }
        Ok(Some(found.cast_into::<Holder>()?))
    }

    fn content_of<'a>(&'static self, holder: &'a Bound<'_, Holder>) -> PyResult<&'a Content<T>> {
        let content = holder.get().content(&self.records);
        content.ok_or_else(|| {
            PyRuntimeError::new_err("somebody has exchanged the states in a module's dictionary")
        })
    }

    #[cold]
    fn not_in(&self, module: &Bound<'_, PyModule>) -> PyErr {
        let why = if is_finalizing(module.py()) {
            "the interpreter is shutting down, and the module was cleared"
        } else {
            "it is not a module of this extension, or its initialiser has not made the state, or it was cleared"
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
                "there are {number} modules with a state {name}, and nothing here says which one is meant: ask with the                  module (`get`), or import the extension once"
            ),
        })
    }
}

/// The name of a module, for messages; it may have been cleared.
fn name_of(module: &Bound<'_, PyModule>) -> String {
    module
        .name()
        .map_or_else(|_| "<unnamed>".to_owned(), |name| format!("{name:?}"))
}

impl<T: State> Default for ModuleState<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows what type the states are of.
impl<T: State> fmt::Debug for ModuleState<T> {
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
/// # use pyo3_sync::{ModuleState, State};
/// # struct Index(Vec<u64>);
/// # impl State for Index {}
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
pub struct StateRef<'py, T: State> {
    reading: Reading<T>,
    /// Keeps this on its thread, attached: whoever drops the last one drops the state.
    _py: PhantomData<Python<'py>>,
}

impl<'py, T: State> StateRef<'py, T> {
    #[inline(always)]
    fn new(reading: Reading<T>, _py: Python<'py>) -> Self {
        StateRef {
            reading,
            _py: PhantomData,
        }
    }
}

impl<T: State> Deref for StateRef<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.reading.state()
    }
}

impl<T: State + fmt::Debug> fmt::Debug for StateRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

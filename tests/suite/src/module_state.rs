//! `ModuleState`: one for each module object, dropped with it, and never under those who use it.

use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};
use pyo3_sync::{
    ModuleData, ModuleState, PyImport, PyMutex, StateHandle, StateRef, exceptions::DeadlockError,
};

use crate::fork::{Forked, allow_forks, without_fork};
use crate::harness::{
    Barrier, child, finish, on_threads, on_two_threads, unless_sanitized, wait_until,
    wait_until_detached,
};
use crate::interpreter::collect;
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

/// How many states there are that have not been dropped.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// A state that leads back to its module, by way of a class.
struct Shop {
    number: usize,
    class: Py<PyType>,
    goods: PyMutex<Vec<Py<PyAny>>>,
    counter: PyImport,
    greeting: Py<PyString>,
}

static SHOP: ModuleState<Shop> = ModuleState::new();

impl Shop {
    fn open(module: &Bound<'_, PyModule>) -> PyResult<Shop> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let py = module.py();
        let members = PyDict::new(py);
        members.set_item("module", module)?;
        let class = py
            .get_type::<PyType>()
            .call1(("Good", (py.get_type::<PyAny>(),), members))?;
        ALIVE.fetch_add(1, SeqCst);
        Ok(Shop {
            number: NUMBER.fetch_add(1, SeqCst),
            class: class.cast_into()?.unbind(),
            goods: PyMutex::new(Vec::new()),
            counter: PyImport::new("collections", "Counter"),
            greeting: PyString::intern(py, "welcome").unbind(),
        })
    }

    /// Uses everything that it has, as a method of an extension would.
    fn use_it(&self, py: Python<'_>) -> PyResult<()> {
        let good = self.class.bind(py).call0()?;
        assert!(good.getattr("module")?.is_instance_of::<PyModule>());
        self.goods.lock(py).push(good.unbind());
        let counted = self.counter.get(py)?.call1((self.greeting.bind(py),))?;
        assert_eq!(counted.get_item("e")?.extract::<u32>()?, 2);
        Ok(())
    }
}

impl ModuleData for Shop {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.class)?;
        for good in self.goods.traverse(visit).into_iter().flatten() {
            visit.call(good)?;
        }
        self.counter
            .traverse(visit)
            .map_or(Ok(()), |counter| visit.call(counter))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // While the interpreter is alive, and attached.
        assert!(is_attached());
        ALIVE.fetch_sub(1, SeqCst);
    }
}

fn new_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    PyModule::new(py, name)
}

fn new_shop<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    let module = new_module(py, name)?;
    SHOP.init(&module, || Shop::open(&module))?;
    Ok(module)
}

fn message(error: PyErr, py: Python<'_>) -> String {
    assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}");
    error.value(py).to_string()
}

fn weak_reference<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    object
        .py()
        .import("weakref")?
        .call_method1("ref", (object,))
}

fn is_dead(weak: &Bound<'_, PyAny>) -> bool {
    weak.call0().expect("it can be called").is_none()
}

/// Collects until `condition`: without a GIL, an object that another thread gave up may take more than one round.
fn collect_until(py: Python<'_>, description: &str, condition: impl Fn() -> bool) {
    wait_until(py, description, || {
        collect(py);
        condition()
    });
}

fn each_module_has_its_own(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (new_shop(py, "a")?, new_shop(py, "b")?);
    let (in_a, in_b) = (SHOP.get(&a)?, SHOP.get(&b)?);
    assert_ne!(in_a.number, in_b.number);
    in_a.use_it(py)?;
    assert_eq!(
        (in_a.goods.lock(py).len(), in_b.goods.lock(py).len()),
        (1, 0)
    );
    assert!(in_a.class.bind(py).getattr("module")?.is(&a));
    let error = message(SHOP.find(py).map(drop).unwrap_err(), py);
    assert!(
        error.contains("there are 2 modules with a state"),
        "{error}"
    );
    assert!(error.contains("module_state::Shop"), "{error}");
    drop((in_a, in_b, b));
    collect_until(py, "one is left", || ALIVE.load(SeqCst) == 1);
    assert_eq!(SHOP.find(py)?.number, SHOP.get(&a)?.number);
    Ok(())
}

fn the_only_one_is_found(py: Python<'_>) -> PyResult<()> {
    let error = message(SHOP.find(py).map(drop).unwrap_err(), py);
    assert!(error.contains("the extension was not imported"), "{error}");
    for _ in 0..3 {
        let module = new_shop(py, "shop")?;
        assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
        // The older of two is found again after the newer one has gone.
        let second = new_shop(py, "second")?;
        assert!(SHOP.find(py).is_err());
        drop(second);
        collect_until(py, "the second is gone", || ALIVE.load(SeqCst) == 1);
        assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
        drop(module);
        collect_until(py, "the first is gone", || ALIVE.load(SeqCst) == 0);
        assert!(SHOP.find(py).is_err());
    }
    Ok(())
}

fn other_modules_have_none(py: Python<'_>) -> PyResult<()> {
    let module = new_module(py, "strange")?;
    let error = message(SHOP.get(&module).map(drop).unwrap_err(), py);
    assert!(
        error.contains("the module 'strange' has no state"),
        "{error}"
    );
    let _shop = new_shop(py, "shop")?;
    assert!(SHOP.get(&module).is_err());
    assert!(SHOP.get(&py.import("sys")?).is_err());
    Ok(())
}

/// Two states in one module, of one type.
fn states_are_told_apart(py: Python<'_>) -> PyResult<()> {
    struct Number(u32);
    impl ModuleData for Number {}
    static ONE: ModuleState<Number> = ModuleState::new();
    static TWO: ModuleState<Number> = ModuleState::new();
    let module = new_module(py, "numbers")?;
    ONE.init(&module, || Ok(Number(1)))?;
    assert!(TWO.get(&module).is_err());
    TWO.init(&module, || Ok(Number(2)))?;
    assert_eq!((ONE.get(&module)?.0, TWO.get(&module)?.0), (1, 2));
    assert_eq!((ONE.find(py)?.0, TWO.find(py)?.0), (1, 2));
    Ok(())
}

fn made_once_by_many_threads(py: Python<'_>) -> PyResult<()> {
    const THREADS: usize = 16;
    for _ in 0..20 {
        let module = new_module(py, "shop")?.unbind();
        let (barrier, runs) = (Barrier::new(THREADS), AtomicUsize::new(0));
        let numbers = on_threads(py, THREADS, |py, _| {
            let module = module.bind(py);
            barrier.meet(py);
            let state = SHOP.get_or_try_init(module, || {
                runs.fetch_add(1, SeqCst);
                py.detach(std::thread::yield_now);
                py.import("decimal")?;
                Shop::open(module)
            });
            state.expect("it is made").number
        });
        assert_eq!(runs.load(SeqCst), 1);
        assert!(numbers.iter().all(|number| *number == numbers[0]));
        assert_eq!(SHOP.find(py)?.number, numbers[0]);
        drop(module);
        collect_until(py, "it is gone", || ALIVE.load(SeqCst) == 0);
    }
    Ok(())
}

fn a_failure_can_be_tried_again(py: Python<'_>) -> PyResult<()> {
    let module = new_module(py, "shop")?;
    let error = SHOP
        .init(&module, || Err(PyValueError::new_err("not yet")))
        .map(drop)
        .unwrap_err();
    assert!(error.is_instance_of::<PyValueError>(py));
    assert!(SHOP.get(&module).is_err() && SHOP.find(py).is_err());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        SHOP.init(&module, || panic!("as it should")).map(drop)
    }));
    assert!(panic.is_err());
    SHOP.init(&module, || Shop::open(&module))?.use_it(py)?;
    let error = SHOP.init(&module, || unreachable!()).map(drop);
    let error = message(error.unwrap_err(), py);
    assert!(error.contains("has its state"), "{error}");
    assert_eq!(ALIVE.load(SeqCst), 1);
    Ok(())
}

fn asking_while_it_is_made(py: Python<'_>) -> PyResult<()> {
    let module = new_module(py, "shop")?;
    SHOP.init(&module, || {
        assert!(SHOP.get(&module).is_err() && SHOP.find(py).is_err());
        let again = SHOP.get_or_try_init(&module, || Shop::open(&module));
        assert!(
            again
                .map(drop)
                .unwrap_err()
                .is_instance_of::<DeadlockError>(py)
        );
        Shop::open(&module)
    })?
    .use_it(py)
}

/// The module, its state, and a class that only the state has: dead after a collection, and the memory is used again.
fn a_module_dies_with_its_state(py: Python<'_>) -> PyResult<()> {
    for round in 0..1_000 {
        let module = new_shop(py, "shop")?;
        let state = SHOP.get(&module)?;
        state.use_it(py)?;
        let weak = [
            weak_reference(&module)?,
            weak_reference(state.class.bind(py))?,
        ];
        drop(state);
        assert!(weak.iter().all(|weak| !is_dead(weak)));
        drop(module);
        if round < 100 {
            collect_until(py, "all are dead", || weak.iter().all(is_dead));
            assert_eq!(ALIVE.load(SeqCst), 0);
        }
    }
    collect_until(py, "all are dead", || ALIVE.load(SeqCst) == 0);
    Ok(())
}

/// Whoever uses a state keeps it, while another thread gets rid of the module.
fn who_uses_it_keeps_it(py: Python<'_>) -> PyResult<()> {
    let module = Mutex::new(Some(new_shop(py, "shop")?.unbind()));
    let (used, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let state = SHOP.find(py).expect("it is there");
            state.use_it(py).expect("it works");
            used.store(true, SeqCst);
            py.detach(|| {
                wait_until_detached("the module is gone", || gone.load(SeqCst));
            });
            assert_eq!(ALIVE.load(SeqCst), 1);
            state.use_it(py).expect("it still works");
            assert_eq!(state.goods.lock(py).len(), 2);
            drop(state);
        },
        |py| {
            wait_until(py, "it is used", || used.load(SeqCst));
            let module = module
                .lock()
                .expect("no panic")
                .take()
                .expect("it is there");
            let module = module.into_bound(py);
            // The class keeps the module, and is kept by the state, which is in use. So take the module apart.
            module.dict().clear();
            drop(module);
            for _ in 0..5 {
                collect(py);
            }
            assert!(SHOP.find(py).is_err());
            assert_eq!(ALIVE.load(SeqCst), 1);
            gone.store(true, SeqCst);
        },
    );
    // The thread that used it last has dropped it.
    collect_until(py, "the state is gone", || ALIVE.load(SeqCst) == 0);
    Ok(())
}

/// What a state that is being used refers to is not collected, though nothing else can reach it.
fn what_is_used_is_not_taken_apart(py: Python<'_>) -> PyResult<()> {
    let module = new_shop(py, "shop")?;
    let state = SHOP.get(&module)?;
    let weak = [
        weak_reference(&module)?,
        weak_reference(state.class.bind(py))?,
    ];
    drop(module);
    for _ in 0..5 {
        collect(py);
    }
    assert!(weak.iter().all(|weak| !is_dead(weak)));
    state.use_it(py)?;
    assert_eq!(SHOP.find(py)?.number, state.number);
    drop(state);
    collect_until(py, "all are dead", || weak.iter().all(is_dead));
    assert_eq!(ALIVE.load(SeqCst), 0);
    Ok(())
}

/// Threads look for states, and use them, while modules come and go and are collected.
fn found_or_not_but_never_half_dead(py: Python<'_>) -> PyResult<()> {
    const ROUNDS: usize = 150;
    let (done, found) = (AtomicBool::new(false), AtomicUsize::new(0));
    on_threads(py, 4, |py, number| {
        if number > 0 {
            while !done.load(SeqCst) {
                if let Ok(state) = SHOP.find(py) {
                    state.use_it(py).expect("it is whole");
                    if number == 1 {
                        py.detach(std::thread::yield_now);
                    }
                    state.use_it(py).expect("it is whole");
                    found.fetch_add(1, SeqCst);
                }
                py.detach(std::thread::yield_now);
            }
            return;
        }
        for round in 0..ROUNDS {
            let module = new_shop(py, "shop").expect("it is made");
            let before = found.load(SeqCst);
            wait_until(py, "others have used it", || found.load(SeqCst) > before);
            if round % 2 == 0 {
                module.dict().clear();
            }
            drop(module);
            // One that others are using stays, and then there are two, of which none is found.
            wait_until(py, "it is collected", || {
                collect(py);
                ALIVE.load(SeqCst) == 0
            });
        }
        done.store(true, SeqCst);
    });
    assert_eq!(ALIVE.load(SeqCst), 0);
    Ok(())
}

/// Looks for the state when it dies, that is when the collector takes things apart, or it loses its last reference.
#[pyclass(frozen)]
struct LooksLast(#[allow(dead_code)] Py<PyAny>);

/// How often one of them has looked, and how often it has found something.
static LOOKED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

#[pymethods]
impl LooksLast {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl Drop for LooksLast {
    fn drop(&mut self) {
        LOOKED[0].fetch_add(1, SeqCst);
        // SAFETY: an object of Python's is dropped by an attached thread.
        if SHOP.find(unsafe { Python::assume_attached() }).is_ok() {
            LOOKED[1].fetch_add(1, SeqCst);
        }
    }
}

/// While the collector takes a module apart its state is not found any more: what it refers to may have been taken apart already.
fn not_found_in_the_middle_of_clearing(py: Python<'_>) -> PyResult<()> {
    for round in 1..=20 {
        let module = new_module(py, "shop")?;
        // Before and behind the holder, in the dictionary and in what the collector goes through.
        module.add(
            "first",
            Py::new(py, LooksLast(module.clone().into_any().unbind()))?,
        )?;
        SHOP.init(&module, || Shop::open(&module))?;
        module.add(
            "last",
            Py::new(py, LooksLast(module.clone().into_any().unbind()))?,
        )?;
        drop(module);
        collect_until(py, "it is gone", || LOOKED[0].load(SeqCst) == 2 * round);
        assert_eq!(LOOKED[1].load(SeqCst), 0);
        collect_until(py, "the state is gone", || ALIVE.load(SeqCst) == 0);
    }
    Ok(())
}

/// A collection that begins when the interpreter's stack is all but used up, where calls into Python fail.
fn not_found_in_the_middle_of_clearing_without_stack(py: Python<'_>) -> PyResult<()> {
    let code = c"
import gc, sys

def collect_at_the_limit(make):
    looked = 0
    for below in range(1, 12):
        gc.collect()
        make()
        thresholds = gc.get_threshold()
        def descend(depth):
            if depth:
                return descend(depth - 1)
            return [[] for _ in range(100)]
        gc.set_threshold(2, 1, 1)
        depth = sys.getrecursionlimit() - below
        frame = sys._getframe()
        while frame:
            frame, depth = frame.f_back, depth - 1
        try:
            descend(depth)
        except RecursionError:
            pass
        finally:
            gc.set_threshold(*thresholds)
    gc.collect()
";
    let helper = PyModule::from_code(py, code, c"limit.py", c"limit")?;
    #[pyfunction]
    fn make(py: Python<'_>) -> PyResult<()> {
        let module = new_module(py, "shop")?;
        module.add(
            "looks",
            Py::new(py, LooksLast(module.clone().into_any().unbind()))?,
        )?;
        SHOP.init(&module, || Shop::open(&module)).map(drop)
    }
    let make = wrap_pyfunction!(make, py)?;
    helper.call_method1("collect_at_the_limit", (make,))?;
    collect_until(py, "all are gone", || ALIVE.load(SeqCst) == 0);
    assert!(LOOKED[0].load(SeqCst) >= 11);
    assert_eq!(LOOKED[1].load(SeqCst), 0);
    Ok(())
}

/// A finaliser brings the module back to life. Its state has ended, which the message says, and it can have a new one.
fn a_module_that_comes_back_to_life(py: Python<'_>) -> PyResult<()> {
    let code = c"
saved = []
class Saves:
    def __init__(self, module):
        self.module = module
    def __del__(self):
        saved.append(self.module)
";
    let helper = PyModule::from_code(py, code, c"saves.py", c"saves")?;
    let module = new_shop(py, "shop")?;
    module.add("saves", helper.getattr("Saves")?.call1((&module,))?)?;
    drop(module);
    let saved = helper.getattr("saved")?;
    collect_until(py, "it is saved", || saved.len().expect("a list") == 1);
    let module = saved.get_item(0)?.cast_into::<PyModule>()?;
    let error = message(SHOP.get(&module).map(drop).unwrap_err(), py);
    assert!(
        error.contains("before something made it reachable again"),
        "{error}"
    );
    assert!(SHOP.find(py).is_err());
    SHOP.get_or_try_init(&module, || Shop::open(&module))?
        .use_it(py)?;
    assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
    wait_until(py, "the old one is gone", || ALIVE.load(SeqCst) == 1);
    Ok(())
}

/// Destructors run while an exception is on its way up, and must leave it there: else the interpreter crashes.
fn asked_while_an_exception_is_on_its_way(py: Python<'_>) -> PyResult<()> {
    #[pyclass(frozen)]
    struct AsksAll(Py<PyModule>, Py<PyType>);

    impl Drop for AsksAll {
        fn drop(&mut self) {
            // SAFETY: an object of Python's is dropped by an attached thread.
            let py = unsafe { Python::assume_attached() };
            let (module, class) = (self.0.bind(py), self.1.bind(py));
            let _ = SHOP.get(module).map(drop);
            let _ = SHOP.of_type(class).map(drop);
            let _ = SHOP.find(py).map(drop);
            let _ = SHOP.share(module, module);
            let failing = SHOP.get_or_try_init(module, || Err(PyValueError::new_err("no")));
            let _ = failing.map(drop);
        }
    }

    let names = PyDict::new(py);
    let asks = |module: &Bound<'_, PyModule>, class: &Bound<'_, PyType>| {
        names.set_item(
            "asks",
            Py::new(py, AsksAll(module.clone().unbind(), class.clone().unbind()))?,
        )?;
        // The object is on the interpreter's stack when the exception is raised.
        let code = c"
try:
    [globals().pop('asks'), 1 / 0]
except ZeroDivisionError as error:
    raised = error
";
        py.run(code, Some(&names), None)?;
        names.del_item("raised")
    };
    let (shop, foreign) = (new_shop(py, "shop")?, new_module(py, "foreign")?);
    asks(&foreign, &py.get_type::<Plain>())?;
    asks(&shop, &class_of(&shop)?)?;
    asks(&foreign, &class_of(&foreign)?)?;
    let second = new_shop(py, "second")?;
    asks(&foreign, &py.get_type::<Plain>())?;
    asks(&shop, &class_of(&second)?)
}

/// A state is cleared and dropped while an exception is on its way.
fn dropped_while_an_exception_is_on_its_way(py: Python<'_>) -> PyResult<()> {
    struct CallsPython;
    static CALLS: ModuleState<CallsPython> = ModuleState::new();
    impl ModuleData for CallsPython {
        fn clear(&self, py: Python<'_>) {
            py.run(c"str(1)", None, None).expect("it runs");
        }
    }
    let names = PyDict::new(py);
    let module = new_module(py, "calls")?;
    CALLS.init(&module, || Ok(CallsPython))?;
    let holder = module.dict().values().iter().last().expect("there is one");
    module.dict().clear();
    names.set_item("holder", holder)?;
    let code = c"
try:
    [globals().pop('holder'), 1 / 0]
except ZeroDivisionError:
    pass
";
    py.run(code, Some(&names), None)?;
    assert!(CALLS.find(py).is_err());
    Ok(())
}

/// An import that failed after its state was made leaves a module behind, until it is collected.
fn a_failed_import_is_not_in_the_way(py: Python<'_>) -> PyResult<()> {
    let failed = new_shop(py, "failed")?;
    drop(failed);
    let module = new_shop(py, "shop")?;
    // The first is garbage, which nobody has collected.
    assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
    assert_eq!(ALIVE.load(SeqCst), 1);
    Ok(())
}

/// A module that dies after `find` has refused to choose is not counted by the next one.
fn find_succeeds_once_the_other_module_has_died(py: Python<'_>) -> PyResult<()> {
    let (old, module) = (new_shop(py, "old")?, new_shop(py, "shop")?);
    let error = message(SHOP.find(py).map(drop).unwrap_err(), py);
    assert!(error.contains("there are 2 modules"), "{error}");
    drop(old);
    assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
    Ok(())
}

/// There a collection of its own does nothing, which must not count.
fn find_in_the_middle_of_a_collection_changes_nothing(py: Python<'_>) -> PyResult<()> {
    let (old, module) = (new_shop(py, "old")?, new_shop(py, "shop")?);
    let garbage = new_module(py, "garbage")?;
    let looks = LooksLast(garbage.clone().into_any().unbind());
    garbage.add("looks", Py::new(py, looks)?)?;
    drop(garbage);
    collect_until(py, "it has looked", || LOOKED[0].load(SeqCst) == 1);
    drop(old);
    assert_eq!(SHOP.find(py)?.number, SHOP.get(&module)?.number);
    Ok(())
}

/// With a collection for each, this takes minutes.
fn refusals_do_not_collect_all_the_time(py: Python<'_>) -> PyResult<()> {
    let _modules = (new_shop(py, "a")?, new_shop(py, "b")?);
    for _ in 0..100_000 {
        assert!(SHOP.find(py).is_err());
    }
    Ok(())
}

/// Two threads initialize the state of one module, and each call into its dictionary is
/// interrupted by the other thread. What a thread has looked up may be outdated when it inserts.
fn initialized_once_though_every_lookup_is_interrupted(py: Python<'_>) -> PyResult<()> {
    static CALLS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    static RETURNED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    std::thread_local! {
        static NUMBER: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    }

    /// Called in each lookup. Waits until the other thread is in the same one, or has returned.
    #[pyfunction]
    fn meet(py: Python<'_>) {
        let Some(me) = NUMBER.get() else {
            return;
        };
        let other = 1 - me;
        let calls = CALLS[me].fetch_add(1, SeqCst) + 1;
        wait_until(py, "the other thread is there too", || {
            CALLS[other].load(SeqCst) >= calls || RETURNED[other].load(SeqCst)
        });
    }

    let code = c"
class Collides:
    def __init__(self, key, meet):
        self.key, self.meet = key, meet
    def __hash__(self):
        return hash(self.key)
    def __eq__(self, other):
        self.meet()
        return False
";
    let helper = PyModule::from_code(py, code, c"collides.py", c"collides")?;
    let named = new_shop(py, "named")?;
    let key = named.dict().keys().iter().last().expect("there is one");
    let collides = || {
        let meet = wrap_pyfunction!(meet, py)?;
        helper.getattr("Collides")?.call1((&key, meet))
    };
    // A module without a holder, and a module whose state is condemned.
    let (fresh, revived) = (new_module(py, "fresh")?, new_module(py, "revived")?);
    for module in [&fresh, &revived] {
        module.dict().set_item(collides()?, 1)?;
    }
    SHOP.init(&revived, || Shop::open(&revived))?;
    let holder = revived.dict().get_item(&key)?.expect("it has one");
    holder.call_method0("__del__")?;
    assert!(SHOP.get(&revived).is_err());
    for module in [fresh.unbind(), revived.unbind()] {
        for thread in 0..2 {
            CALLS[thread].store(0, SeqCst);
            RETURNED[thread].store(false, SeqCst);
        }
        let runs = AtomicUsize::new(0);
        let numbers = on_threads(py, 2, |py, number| {
            NUMBER.set(Some(number));
            let module = module.bind(py);
            let state = SHOP.get_or_try_init(module, || {
                runs.fetch_add(1, SeqCst);
                Shop::open(module)
            });
            let number_of_state = state.expect("it is initialized").number;
            RETURNED[number].store(true, SeqCst);
            number_of_state
        });
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(numbers[0], numbers[1]);
        assert!(CALLS.iter().all(|calls| calls.load(SeqCst) > 1));
        assert_eq!(SHOP.get(module.bind(py))?.number, numbers[0]);
    }
    Ok(())
}

/// A handle finds its state among several, and nothing when that is gone, though another one is in its place.
fn handles_find_their_state(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (new_shop(py, "a")?, new_shop(py, "b")?);
    let handle: StateHandle<Shop> = SHOP.get(&a)?.handle();
    assert_eq!(handle.get(py)?.number, SHOP.get(&a)?.number);
    assert_ne!(handle.get(py)?.number, SHOP.get(&b)?.number);
    drop(a);
    collect_until(py, "it is gone", || ALIVE.load(SeqCst) == 1);
    let c = new_shop(py, "c")?;
    let error = message(handle.get(py).map(drop).unwrap_err(), py);
    assert!(error.contains("is gone"), "{error}");
    drop((b, c));
    Ok(())
}

/// What Python code may do to the dictionary of a module.
fn what_is_not_a_state_is_told(py: Python<'_>) -> PyResult<()> {
    let module = new_shop(py, "shop")?;
    let key = module.dict().keys().iter().last().expect("there is one");
    let holder = module.dict().get_item(&key)?.expect("it is there");
    for wrong in [
        py.None().into_bound(py),
        "wrong".into_pyobject(py)?.into_any(),
        holder.get_type().call0()?,
    ] {
        let other = new_module(py, "other")?;
        other.dict().set_item(&key, wrong)?;
        message(SHOP.get(&other).map(drop).unwrap_err(), py);
        message(
            SHOP.init(&other, || unreachable!()).map(drop).unwrap_err(),
            py,
        );
        message(SHOP.share(&module, &other).unwrap_err(), py);
    }
    Ok(())
}

/// Threads look for a state all the time, at the very moments at which it goes.
fn dropped_while_others_look(py: Python<'_>) -> PyResult<()> {
    const ROUNDS: usize = 3_000;
    struct Canary(Box<AtomicBool>);
    static CANARY: ModuleState<Canary> = ModuleState::new();
    impl ModuleData for Canary {}
    impl Drop for Canary {
        fn drop(&mut self) {
            self.0.store(false, SeqCst);
        }
    }
    let done = AtomicBool::new(false);
    on_threads(py, 3, |py, number| {
        if number > 0 {
            while !done.load(SeqCst) {
                // Attached all the time, so that with free threading nothing keeps the threads apart.
                for _ in 0..1_000 {
                    if let Ok(state) = CANARY.find(py) {
                        assert!(state.0.load(SeqCst), "it sings");
                    }
                }
                py.detach(std::thread::yield_now);
            }
            return;
        }
        let module = new_module(py, "canary").expect("it is made");
        for _ in 0..ROUNDS {
            CANARY
                .init(&module, || Ok(Canary(Box::new(AtomicBool::new(true)))))
                .expect("it has none");
            module.dict().clear();
        }
        done.store(true, SeqCst);
    });
    assert!(CANARY.find(py).is_err());
    Ok(())
}

/// What is at the address of a module that has gone is another module.
fn a_later_module_is_not_taken_for_it(py: Python<'_>) -> PyResult<()> {
    let module = new_shop(py, "shop")?;
    let (weak, address) = (weak_reference(&module)?, module.as_ptr());
    let holder = module.dict().values().iter().find(|value| {
        let class = value.get_type().name();
        class.is_ok_and(|name| name == "ModuleState")
    });
    let holder = holder.expect("the dictionary has the holder");
    drop(module);
    // The class leads from the state to the module too, so take that away.
    SHOP.find(py)?.class.bind(py).setattr("module", py.None())?;
    collect(py);
    assert!(!is_dead(&weak));
    for _ in 0..100 {
        let other = new_module(py, "other")?;
        assert!(other.as_ptr() != address && SHOP.get(&other).is_err());
    }
    drop(holder);
    collect_until(py, "all are dead", || is_dead(&weak));
    Ok(())
}

/// A class that was made with a module knows its state, and so does one derived from it.
fn classes_know_their_module(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (new_shop(py, "a")?, new_shop(py, "b")?);
    for module in [&a, &b] {
        let class = class_of(module)?;
        let number = SHOP.get(module)?.number;
        assert_eq!(SHOP.of_type(&class)?.number, number);
        let derived = py
            .get_type::<PyType>()
            .call1(("Derived", (class,), PyDict::new(py)))?;
        assert_eq!(SHOP.of_type(derived.cast()?)?.number, number);
    }
    // Others know none, and there are two.
    assert!(SHOP.of_type(&py.get_type::<Plain>()).is_err());
    drop(b);
    collect_until(py, "one is left", || ALIVE.load(SeqCst) == 1);
    for class in [py.get_type::<Plain>(), py.get_type::<PyString>()] {
        assert_eq!(SHOP.of_type(&class)?.number, SHOP.get(&a)?.number);
    }
    // A class of another module, which may be one of ours that was cleared: not the state that happens to be there.
    let other = class_of(&new_module(py, "other")?)?;
    let error = message(SHOP.of_type(&other).map(drop).unwrap_err(), py);
    assert!(error.contains("the module 'other' has no state"), "{error}");
    // And one of a module that was given the state.
    let inner = new_module(py, "inner")?;
    SHOP.share(&a, &inner)?;
    assert_eq!(
        SHOP.of_type(&class_of(&inner)?)?.number,
        SHOP.get(&a)?.number
    );
    Ok(())
}

#[pyclass(frozen)]
struct Plain;

// All interpreters have them, but not for all stable ABIs.
unsafe extern "C" {
    fn PyGILState_Check() -> c_int;
    fn PyType_FromModuleAndSpec(
        module: *mut ffi::PyObject,
        spec: *mut ffi::PyType_Spec,
        bases: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// Whether this thread is attached.
fn is_attached() -> bool {
    // SAFETY: no preconditions.
    unsafe { PyGILState_Check() == 1 }
}

/// Where a class cannot be asked for its module.
pub(crate) fn classes_know_no_module(_: Python<'_>) -> Option<String> {
    cfg!(abi3_py39)
        .then(|| "the stable ABI of Python 3.9 cannot ask a class for its module".to_owned())
}

/// A heap type of the module, as extensions in C make them.
pub(crate) fn class_of<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    let mut slots = [ffi::PyType_Slot {
        slot: 0,
        pfunc: std::ptr::null_mut(),
    }];
    let mut spec = ffi::PyType_Spec {
        name: c_str!("module.Class").as_ptr(),
        basicsize: 0, // As its base.
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; the specification is complete, and copied by the call; the result is a new reference or null.
    unsafe {
        let class = PyType_FromModuleAndSpec(module.as_ptr(), &mut spec, std::ptr::null_mut());
        Ok(Bound::from_owned_ptr_or_err(module.py(), class)?.cast_into()?)
    }
}

fn submodules_share_it(py: Python<'_>) -> PyResult<()> {
    let (module, other) = (new_shop(py, "shop")?, new_shop(py, "other")?);
    let inner = new_module(py, "inner")?;
    assert!(SHOP.share(&inner, &module).is_err());
    SHOP.share(&module, &inner)?;
    SHOP.share(&module, &inner)?;
    module.add_submodule(&inner)?;
    assert_eq!(SHOP.get(&inner)?.number, SHOP.get(&module)?.number);
    let same = SHOP.get_or_try_init(&inner, || unreachable!())?;
    assert_eq!(same.number, SHOP.get(&module)?.number);
    drop(same);
    let error = message(SHOP.share(&module, &other).unwrap_err(), py);
    assert!(error.contains("has a state"), "{error}");
    drop((module, other));
    // The submodule keeps the state, and that its module.
    collect_until(py, "one is left", || ALIVE.load(SeqCst) == 1);
    SHOP.get(&inner)?.use_it(py)?;
    drop(inner);
    collect_until(py, "none is left", || ALIVE.load(SeqCst) == 0);
    Ok(())
}

fn a_cleared_module_has_none(py: Python<'_>) -> PyResult<()> {
    let module = new_shop(py, "shop")?;
    module.dict().clear();
    wait_until(py, "it is gone", || ALIVE.load(SeqCst) == 0);
    let error = message(SHOP.get(&module).map(drop).unwrap_err(), py);
    assert!(error.contains("it was cleared"), "{error}");
    // As a module does that is initialised again.
    SHOP.init(&module, || Shop::open(&module))?.use_it(py)
}

/// A state that is dropped asks for itself.
fn dropping_it_finds_nothing(py: Python<'_>) -> PyResult<()> {
    struct Last;
    static LAST: ModuleState<Last> = ModuleState::new();
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    impl ModuleData for Last {}
    impl Drop for Last {
        fn drop(&mut self) {
            let found = Python::try_attach(|py| LAST.find(py).is_ok());
            SEEN.store(1 + usize::from(found == Some(true)), SeqCst);
        }
    }
    let module = new_module(py, "last")?;
    LAST.init(&module, || Ok(Last))?;
    drop(module);
    collect_until(py, "it is dropped", || SEEN.load(SeqCst) != 0);
    assert_eq!(SEEN.load(SeqCst), 1);
    Ok(())
}

/// The collector clears a state whose objects it cannot take apart otherwise.
fn clearing_breaks_cycles(py: Python<'_>) -> PyResult<()> {
    /// Leads to itself, is seen by the collector, and cannot be cleared by it.
    #[pyclass(frozen)]
    struct Knot(PyMutex<Option<Py<PyAny>>>);

    #[pymethods]
    impl Knot {
        fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
            match self.0.traverse(&visit) {
                Some(Some(object)) => visit.call(object),
                _ => Ok(()),
            }
        }
    }

    impl Drop for Knot {
        fn drop(&mut self) {
            KNOTS.fetch_sub(1, SeqCst);
        }
    }

    struct Holds(Py<Knot>);
    static KNOTS: AtomicUsize = AtomicUsize::new(0);
    static HOLDS: ModuleState<Holds> = ModuleState::new();

    impl ModuleData for Holds {
        fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
            visit.call(&self.0)
        }

        fn clear(&self, py: Python<'_>) {
            let _object = self.0.get().0.lock(py).take();
        }
    }

    let module = new_module(py, "holds")?;
    HOLDS.init(&module, || {
        let knot = Py::new(py, Knot(PyMutex::new(None)))?;
        KNOTS.fetch_add(1, SeqCst);
        *knot.get().0.lock(py) = Some(knot.clone_ref(py).into_any());
        Ok(Holds(knot))
    })?;
    drop(module);
    collect_until(py, "the knot is undone", || KNOTS.load(SeqCst) == 0);
    Ok(())
}

/// One is kept by a detached thread when the process forks, and the others are used in the child.
fn usable_in_the_child_of_a_fork(py: Python<'_>) -> PyResult<()> {
    finish(py, child(py, "module_state::forks")?, CHILD_LIMIT)?.expect_success();
    Ok(())
}

fn forks(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let module = new_shop(py, "shop")?.unbind();
    let (used, done) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let state = SHOP.get(module.bind(py)).expect("it is there");
            used.store(true, SeqCst);
            py.detach(|| wait_until_detached("the fork is over", || done.load(SeqCst)));
            drop(state);
        },
        |py| {
            wait_until(py, "it is used", || used.load(SeqCst));
            let use_all = |py: Python<'_>| -> PyResult<()> {
                SHOP.find(py)?.use_it(py)?;
                SHOP.get(module.bind(py))?.use_it(py)?;
                let second = new_shop(py, "second")?;
                SHOP.get(&second)?.use_it(py)?;
                drop(second);
                collect_until(py, "the second is gone", || ALIVE.load(SeqCst) == 1);
                SHOP.find(py)?.use_it(py)
            };
            let forked = Forked::running(py, |py| use_all(py).expect("all works"));
            done.store(true, SeqCst);
            forked
                .and_then(|forked| forked.expect_success(py))
                .expect("the child ends well");
        },
    );
    Ok(())
}

/// While the interpreter shuts down, finalisers ask for a state whose module was cleared or will be.
fn asked_by_finalisers_at_exit(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "module_state::exits")?, CHILD_LIMIT)?;
    finished.expect_success();
    for line in ["asked at exit: ", "dropped while alive"] {
        assert!(finished.output.contains(line), "{}", finished.output);
    }
    Ok(())
}

/// Asks when it dies.
#[pyclass(frozen)]
struct Asks(#[allow(dead_code)] Py<PyAny>);

struct Witness(#[allow(dead_code)] Py<PyAny>);
static WITNESS: ModuleState<Witness> = ModuleState::new();

impl ModuleData for Witness {}

impl Drop for Witness {
    fn drop(&mut self) {
        let alive = Python::try_attach(|py| py.eval(c"1 + 1", None, None).is_ok());
        // While an interpreter is finalising, `try_attach` gives nothing to any thread.
        if alive.unwrap_or_else(is_attached) {
            println!("dropped while alive");
        }
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        // SAFETY: an object of Python's is dropped by an attached thread.
        let py = unsafe { Python::assume_attached() };
        // Not what the error says: before PyO3 makes its object it asks whether there is an interpreter, and panics.
        let is_found = WITNESS.find(py).is_ok();
        println!("asked at exit: {is_found}");
    }
}

fn exits(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    for name in ["state_a", "state_b"] {
        let module = new_module(py, name)?;
        modules.set_item(name, &module)?;
        module.add("asks", Py::new(py, Asks(py.None()))?)?;
        if name == "state_a" {
            WITNESS.init(&module, || {
                Ok(Witness(Py::new(py, Asks(py.None()))?.into_any()))
            })?;
        }
    }
    // Dies late: with the modules that are cleared last.
    py.import("builtins")?
        .add("asks", Py::new(py, Asks(py.None()))?)
}

/// An extension of its own in the same library: what an import does.
#[pymodule(gil_used = false)]
pub(crate) fn pyo3_sync_state_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if FAILS.swap(false, SeqCst) {
        SHOP.init(module, || Err(PyValueError::new_err("cannot open")))?;
    }
    SHOP.init(module, || Shop::open(module))?;
    module.add_class::<Plain>()?;
    module.add_function(wrap_pyfunction!(number, module)?)
}

/// Whether the next initialisation fails.
static FAILS: AtomicBool = AtomicBool::new(false);

#[pyfunction(pass_module)]
fn number(module: &Bound<'_, PyModule>) -> PyResult<usize> {
    Ok(SHOP.get(module)?.number)
}

#[pymethods]
impl Plain {
    #[staticmethod]
    fn number(py: Python<'_>) -> PyResult<usize> {
        Ok(SHOP.find(py)?.number)
    }
}

/// Imports the extension once more, as a new module object where PyO3 makes one.
fn import_again<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    let code = c"
import importlib.machinery, importlib.util, sys

def again(name='pyo3_sync_state_extension'):
    if name in sys.builtin_module_names:
        spec = importlib.machinery.BuiltinImporter.find_spec(name)
    else:
        import pyo3_sync_suite
        loader = importlib.machinery.ExtensionFileLoader(name, pyo3_sync_suite.__file__)
        spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
";
    let helper = PyModule::from_code(py, code, c"import_again.py", c"import_again")?;
    Ok(helper.call_method0("again")?.cast_into()?)
}

/// Whether each import makes a module object of its own: with PyO3 0.28 and later.
fn imports_make_new_modules(py: Python<'_>) -> PyResult<bool> {
    let is_new = !import_again(py)?.is(&import_again(py)?);
    // Of the versions that are tested, 0.26 alone is one that does not.
    assert!(is_new || cfg!(pyo3_before_0_29));
    Ok(is_new)
}

fn imported_side_by_side(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (import_again(py)?, import_again(py)?);
    let number = |module: &Bound<'_, PyModule>| -> PyResult<usize> {
        module.call_method0("number")?.extract()
    };
    let by_class = |module: &Bound<'_, PyModule>| -> PyResult<usize> {
        module.getattr("Plain")?.call_method0("number")?.extract()
    };
    if !imports_make_new_modules(py)? {
        assert!(a.is(&b));
        assert_eq!(number(&a)?, by_class(&a)?);
        return Ok(());
    }
    assert_ne!(number(&a)?, number(&b)?);
    assert!(by_class(&a).is_err());
    drop(b);
    collect_until(py, "one is left", || ALIVE.load(SeqCst) == 1);
    assert_eq!(number(&a)?, by_class(&a)?);
    Ok(())
}

fn a_failing_import_can_be_tried_again(py: Python<'_>) -> PyResult<()> {
    FAILS.store(true, SeqCst);
    let error = import_again(py).map(drop).unwrap_err();
    assert!(error.is_instance_of::<PyValueError>(py), "{error}");
    import_again(py)?.call_method0("number").map(drop)
}

/// A thousand imports, each removed and collected.
fn memory_is_flat(py: Python<'_>) -> PyResult<()> {
    if !imports_make_new_modules(py)? {
        return Ok(()); // The module stays, and nothing grows.
    }
    collect_until(py, "those are gone", || ALIVE.load(SeqCst) == 0);
    let import = || -> PyResult<()> {
        let module = import_again(py)?;
        SHOP.get(&module)?.use_it(py)?;
        let weak = [
            weak_reference(&module)?,
            weak_reference(SHOP.get(&module)?.class.bind(py))?,
        ];
        drop(module);
        collect_until(py, "all are dead", || weak.iter().all(is_dead));
        assert_eq!(ALIVE.load(SeqCst), 0);
        Ok(())
    };
    for _ in 0..200 {
        import()?;
    }
    let before = resident_kilobytes();
    for _ in 0..1_000 {
        import()?;
    }
    let grown = resident_kilobytes().saturating_sub(before);
    assert!(grown < 1_000, "grown by {grown} kB in a thousand imports");
    Ok(())
}

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Looked at by code that has only a reference.
fn a_reference_is_shown(py: Python<'_>) -> PyResult<()> {
    #[derive(Debug)]
    struct Plain(#[allow(dead_code)] u8);
    impl ModuleData for Plain {}
    static PLAIN: ModuleState<Plain> = ModuleState::new();
    let module = new_module(py, "plain")?;
    let state: StateRef<'_, Plain> = PLAIN.init(&module, || Ok(Plain(1)))?;
    assert_eq!(format!("{state:?}"), "Plain(1)");
    assert!(format!("{PLAIN:?}").starts_with("ModuleState<"));
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(each_module_has_its_own),
        test!(the_only_one_is_found),
        test!(other_modules_have_none),
        test!(states_are_told_apart),
        test!(made_once_by_many_threads).limit(30),
        test!(a_failure_can_be_tried_again),
        test!(asking_while_it_is_made),
        test!(a_module_dies_with_its_state).limit(30),
        test!(who_uses_it_keeps_it),
        test!(what_is_used_is_not_taken_apart),
        test!(found_or_not_but_never_half_dead).limit(60),
        test!(not_found_in_the_middle_of_clearing),
        test!(not_found_in_the_middle_of_clearing_without_stack).limit(30),
        test!(a_module_that_comes_back_to_life),
        test!(asked_while_an_exception_is_on_its_way),
        test!(dropped_while_an_exception_is_on_its_way),
        test!(a_failed_import_is_not_in_the_way),
        test!(find_succeeds_once_the_other_module_has_died),
        test!(find_in_the_middle_of_a_collection_changes_nothing),
        test!(refusals_do_not_collect_all_the_time).limit(30),
        test!(initialized_once_though_every_lookup_is_interrupted),
        test!(handles_find_their_state),
        test!(what_is_not_a_state_is_told),
        test!(dropped_while_others_look).limit(30),
        test!(a_later_module_is_not_taken_for_it),
        test!(classes_know_their_module).unless(classes_know_no_module),
        test!(submodules_share_it),
        test!(a_cleared_module_has_none),
        test!(dropping_it_finds_nothing),
        test!(clearing_breaks_cycles),
        test!(usable_in_the_child_of_a_fork).unless(without_fork),
        test!(asked_by_finalisers_at_exit),
        test!(imported_side_by_side),
        test!(a_failing_import_can_be_tried_again),
        test!(memory_is_flat).limit(60).unless(unless_sanitized),
        test!(a_reference_is_shown),
    ],
    scenarios: &[scenario!(forks), scenario!(exits)],
};

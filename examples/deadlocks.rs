//! `cargo run --example deadlocks`: what would never end, with this crate and with others.
//!
//! Each case is one piece of code that runs with either cell, or either mutex, in a process of its own, which is ended
//! after two seconds if it does not end by itself.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{prelude::*, sync::MutexExt};

/// What the two kinds of cell have in common.
trait Cell: Sync + 'static {
    const NAME: &'static str;
    const NEW: Self;
    #[track_caller]
    fn get_or_init(&self, py: Python<'_>, f: impl FnOnce() -> i32) -> i32;
    fn set(&self, py: Python<'_>, value: i32);
}

macro_rules! impl_cell {
    ($cell:ty, $name:literal) => {
        impl Cell for $cell {
            const NAME: &'static str = $name;
            const NEW: Self = <$cell>::new();
            #[track_caller]
            fn get_or_init(&self, py: Python<'_>, f: impl FnOnce() -> i32) -> i32 {
                *<$cell>::get_or_init(self, py, f)
            }
            fn set(&self, py: Python<'_>, value: i32) {
                let _ = <$cell>::set(self, py, value);
            }
        }
    };
}
impl_cell!(pyo3_sync::PyOnceLock<i32>, "pyo3_sync::PyOnceLock");
impl_cell!(pyo3::sync::PyOnceLock<i32>, "pyo3::sync::PyOnceLock");

/// What the two kinds of mutex have in common.
trait Mutex: Sync + 'static {
    const NAME: &'static str;
    const NEW: Self;
    #[track_caller]
    fn with(&self, py: Python<'_>, f: impl FnOnce());
}

impl Mutex for pyo3_sync::PyMutex<()> {
    const NAME: &'static str = "pyo3_sync::PyMutex";
    const NEW: Self = pyo3_sync::PyMutex::new(());
    #[track_caller]
    fn with(&self, py: Python<'_>, f: impl FnOnce()) {
        let _guard = self.lock(py);
        f();
    }
}

impl Mutex for std::sync::Mutex<()> {
    const NAME: &'static str = "std::sync::Mutex with MutexExt";
    const NEW: Self = std::sync::Mutex::new(());
    #[track_caller]
    fn with(&self, py: Python<'_>, f: impl FnOnce()) {
        let _guard = self.lock_py_attached(py);
        f();
    }
}

/// Runs two closures on threads of their own, attached. A panic in one of them is over when the other has finished.
fn on_two_threads(
    py: Python<'_>,
    first: impl FnOnce(Python<'_>) + Send,
    second: impl FnOnce(Python<'_>) + Send,
) {
    py.detach(|| {
        thread::scope(|scope| {
            let named = |name: &str| thread::Builder::new().name(name.to_owned());
            let first = named("first").spawn_scoped(scope, || Python::attach(first));
            let second = named("second").spawn_scoped(scope, || Python::attach(second));
            for thread in [first, second] {
                let _ = thread.expect("a thread can be started").join();
            }
        });
    });
}

fn wait_for(py: Python<'_>, flag: &AtomicBool) {
    py.detach(|| {
        while !flag.load(SeqCst) {
            thread::yield_now();
        }
    });
}

/// The initialiser lets go of the GIL and wants it back; `set` waits for the initialiser, and keeps the GIL.
fn set_during_initialisation<C: Cell>(py: Python<'_>) {
    let (cell, inside, setting) = (C::NEW, AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            cell.get_or_init(py, || {
                inside.store(true, SeqCst);
                wait_for(py, &setting);
                1
            });
        },
        |py| {
            wait_for(py, &inside);
            setting.store(true, SeqCst);
            cell.set(py, 2);
        },
    );
}

/// A closure for Python code to call.
#[pyclass(frozen)]
struct Asks(Box<dyn Fn(Python<'_>) + Send + Sync>);

#[pymethods]
impl Asks {
    fn __call__(&self, py: Python<'_>) {
        (self.0)(py);
    }
}

/// An object is dropped by detached code in the initialiser; when the thread attaches again its `__del__` runs.
fn finaliser_asks_for_the_cell<C: Cell>(py: Python<'_>) {
    let code = c"
class Mortal:
    def __init__(self, call):
        self.call = call
    def __del__(self):
        self.call()
";
    let cell: &'static C = Box::leak(Box::new(C::NEW));
    let ask = Asks(Box::new(|py| {
        cell.get_or_init(py, || 1);
    }));
    let object = PyModule::from_code(py, code, c"mortal.py", c"mortal")
        .and_then(|module| module.getattr("Mortal")?.call1((ask,)))
        .expect("it is made")
        .unbind();
    cell.get_or_init(py, || {
        py.detach(|| drop(object));
        2
    });
}

/// Each of two cells needs the other to be filled.
fn two_cells_need_each_other<C: Cell>(py: Python<'_>) {
    let (first, second, barrier) = (C::NEW, C::NEW, Barrier::new(2));
    let fill = |py: Python<'_>, mine: &C, other: &C| {
        mine.get_or_init(py, || {
            py.detach(|| barrier.wait());
            other.get_or_init(py, || 1)
        });
    };
    on_two_threads(
        py,
        |py| fill(py, &first, &second),
        |py| fill(py, &second, &first),
    );
}

/// The initialiser imports a module; another thread is importing it, and its top level asks for the cell.
fn module_asks_for_the_cell<C: Cell>(py: Python<'_>) {
    let cell: &'static C = Box::leak(Box::new(C::NEW));
    let (importing, filling): (&AtomicBool, &AtomicBool) = (
        Box::leak(Box::new(AtomicBool::new(false))),
        Box::leak(Box::new(AtomicBool::new(false))),
    );
    let ask = Asks(Box::new(|py| {
        // Once. After an error the module is imported again.
        if !importing.swap(true, SeqCst) {
            wait_for(py, filling);
            py.detach(|| thread::sleep(Duration::from_millis(100))); // Until the import waits.
            cell.get_or_init(py, || 1);
        }
    }));
    let folder = modules_of(std::process::id());
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("asks.py"), "import sys\nsys.ask()\n"))
        .expect("the temporary folder can be written to");
    let prepare = || -> PyResult<()> {
        let sys = py.import("sys")?;
        sys.setattr("ask", Bound::new(py, ask)?)?;
        sys.setattr("dont_write_bytecode", true)?;
        sys.getattr("path")?
            .call_method1("insert", (0, folder.to_str()))?;
        Ok(())
    };
    prepare().expect("it is prepared");
    on_two_threads(
        py,
        |py| {
            wait_for(py, importing);
            cell.get_or_init(py, || {
                filling.store(true, SeqCst);
                i32::from(py.import("asks").is_ok())
            });
        },
        |py| drop(py.import("asks")),
    );
}

/// Where a process that runs a case keeps the modules that it imports; whoever started it removes them.
fn modules_of(process: u32) -> PathBuf {
    env::temp_dir().join(format!("pyo3-sync-deadlocks-{process}.d"))
}

fn one_thread_locks_twice<M: Mutex>(py: Python<'_>) {
    let mutex = M::NEW;
    mutex.with(py, || mutex.with(py, || ()));
}

fn two_threads_lock_in_opposite_order<M: Mutex>(py: Python<'_>) {
    let (first, second, barrier) = (M::NEW, M::NEW, Barrier::new(2));
    let lock = |py: Python<'_>, mine: &M, other: &M| {
        mine.with(py, || {
            py.detach(|| barrier.wait());
            other.with(py, || ());
        });
    };
    on_two_threads(
        py,
        |py| lock(py, &first, &second),
        |py| lock(py, &second, &first),
    );
}

/// What the two traits have in common that let attached threads lock a mutex of `std`.
trait Attached {
    const NAME: &'static str;
    fn lock<'a>(py: Python<'_>, mutex: &'a std::sync::Mutex<()>) -> std::sync::MutexGuard<'a, ()>;
}

struct Ours;

impl Attached for Ours {
    const NAME: &'static str = "pyo3_sync::ext::MutexExt";
    fn lock<'a>(py: Python<'_>, mutex: &'a std::sync::Mutex<()>) -> std::sync::MutexGuard<'a, ()> {
        pyo3_sync::ext::MutexExt::lock_attached(mutex, py).expect("it is not poisoned")
    }
}

struct Theirs;

impl Attached for Theirs {
    const NAME: &'static str = "pyo3::sync::MutexExt";
    fn lock<'a>(py: Python<'_>, mutex: &'a std::sync::Mutex<()>) -> std::sync::MutexGuard<'a, ()> {
        mutex.lock_py_attached(py).expect("it is not poisoned")
    }
}

/// A thread gives a lock up and wants it back, attached all the time; another one has waited for it.
fn one_thread_stays_attached<A: Attached>(py: Python<'_>) {
    let mutex = std::sync::Mutex::new(());
    let (owned, asking) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let guard = mutex.lock().expect("it is not poisoned");
            owned.store(true, SeqCst);
            wait_for(py, &asking);
            py.detach(|| thread::sleep(Duration::from_millis(50)));
            drop(guard);
            let start = Instant::now();
            while mutex.try_lock().is_ok() && start.elapsed() < Duration::from_millis(100) {
                std::hint::spin_loop(); // Until the other one has it.
            }
            drop(mutex.lock());
        },
        |py| {
            wait_for(py, &owned);
            asking.store(true, SeqCst);
            drop(A::lock(py, &mutex));
        },
    );
}

type Case = (&'static str, [(&'static str, fn(Python<'_>)); 2]);

macro_rules! case {
    ($title:literal, $case:ident, $kind:ident, $ours:ty, $theirs:ty) => {
        (
            $title,
            [
                (<$ours as $kind>::NAME, $case::<$ours>),
                (<$theirs as $kind>::NAME, $case::<$theirs>),
            ],
        )
    };
}
macro_rules! cells {
    ($title:literal, $case:ident) => {
        case!(
            $title,
            $case,
            Cell,
            pyo3_sync::PyOnceLock<i32>,
            pyo3::sync::PyOnceLock<i32>
        )
    };
}
macro_rules! mutexes {
    ($title:literal, $case:ident) => {
        case!(
            $title,
            $case,
            Mutex,
            pyo3_sync::PyMutex<()>,
            std::sync::Mutex<()>
        )
    };
}

const CASES: &[Case] = &[
    cells!(
        "`set` while another thread's initialiser needs the GIL",
        set_during_initialisation
    ),
    cells!(
        "a `__del__` asks for the cell in the middle of its initialiser",
        finaliser_asks_for_the_cell
    ),
    cells!(
        "two cells whose initialisers need each other",
        two_cells_need_each_other
    ),
    cells!(
        "an initialiser imports a module that asks for the cell, while another thread is importing it",
        module_asks_for_the_cell
    ),
    mutexes!("one thread locks twice", one_thread_locks_twice),
    mutexes!(
        "two threads lock two mutexes in opposite order",
        two_threads_lock_in_opposite_order
    ),
    case!(
        "an attached thread locks a mutex of `std` that another one has waited for",
        one_thread_stays_attached,
        Attached,
        Ours,
        Theirs
    ),
];

const LIMIT: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<usize> = env::args()
        .skip(1)
        .flat_map(|argument| argument.parse())
        .collect();
    match arguments[..] {
        [case, peer] => {
            Python::initialize();
            Python::attach(CASES[case].1[peer].1);
        }
        _ => show_all(),
    }
}

fn show_all() {
    for (case, (title, peers)) in CASES.iter().enumerate() {
        println!("\n{title}");
        for (peer, (name, _)) in peers.iter().enumerate() {
            println!("  {name}: {}", run(case, peer));
        }
    }
}

/// Runs a case in a process of its own, and says what came of it.
fn run(case: usize, peer: usize) -> String {
    let output = env::temp_dir().join(format!("pyo3-sync-deadlocks-{}", std::process::id()));
    let file = std::fs::File::create(&output).expect("the temporary folder can be written to");
    let mut child = Command::new(env::current_exe().expect("this program has a path"))
        .args([case.to_string(), peer.to_string()])
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("this program starts again");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
            child
                .kill()
                .and_then(|()| child.wait())
                .expect("it can be ended");
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let messages = std::fs::read_to_string(&output).unwrap_or_default();
    let _ = std::fs::remove_file(&output);
    let _ = std::fs::remove_dir_all(modules_of(child.id()));
    let message: Vec<&str> = messages
        .lines()
        .skip_while(|line| !line.starts_with("deadlock:"))
        .take_while(|line| !line.starts_with("note:") && !line.is_empty())
        .collect();
    match status {
        None => "HANGS".to_owned(),
        Some(status) if status.success() && message.is_empty() => "finishes".to_owned(),
        // The main thread, if it was the one that was told, ends the process with that panic's code.
        Some(status) if matches!(status.code(), Some(0 | 101)) && !message.is_empty() => {
            format!("is told, and goes on\n    {}", message.join("\n    "))
        }
        Some(status) => format!("CRASHES ({status})\n{messages}"),
    }
}

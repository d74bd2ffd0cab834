//! Memory: how large a primitive is, and what a thread costs on the heap that uses it or waits for it.
//!
//! Counted are the bytes that this extension has from its allocator, in which ours and the peers' code is. Stacks are not counted, nor
//! what the interpreter, the C library and the system keep for a thread. A table that grows by doubling, and stays, is counted for the
//! threads that made it grow.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicIsize, Ordering},
    },
    thread,
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use pyo3::{
    prelude::*,
    sync::{MutexExt, RwLockExt},
};
use pyo3_sync::{
    ModuleState, PyBarrier, PyCondvar, PyLazy, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock,
    PySnapshot,
};
use serde_json::{Value, json};

/// What one primitive takes.
pub(crate) struct Memory {
    name: &'static str,
    /// Its size with nothing in it, `()` where it is generic.
    empty: usize,
    /// Its size with a `Py<PyAny>`.
    with_object: Option<usize>,
    threads: Option<Threads>,
}

/// Bytes on the heap, for each thread.
struct Threads {
    /// That has used it, until the thread ends.
    used: f64,
    /// That waits for it, besides.
    waits: f64,
}

impl Memory {
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "empty": self.empty,
            "with_object": self.with_object,
            "used": self.threads.as_ref().map(|threads| threads.used),
            "waits": self.threads.as_ref().map(|threads| threads.waits),
        })
    }
}

/// The allocator of this extension, which counts while it is told to.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Off while times are measured: threads that allocate would meet at the counter.
static COUNTS: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    if COUNTS.load(Ordering::Relaxed) {
        // No allocation is larger than `isize` can tell.
        BYTES.fetch_add(sign * bytes as isize, Ordering::Relaxed);
    }
}

// SAFETY: all is done by the system's allocator, which keeps the contract; counting allocates nothing and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: `memory` comes from `alloc` above, that is, from the system's allocator, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// A primitive without the two figures that need threads.
macro_rules! size {
    ($name:literal, $empty:ty) => {
        Memory {
            name: $name,
            empty: size_of::<$empty>(),
            with_object: None,
            threads: None,
        }
    };
    ($name:literal, $empty:ty, $with_object:ty) => {
        Memory {
            with_object: Some(size_of::<$with_object>()),
            ..size!($name, $empty)
        }
    };
}

type Object = Py<PyAny>;

pub(crate) fn measure(py: Python<'_>) -> Vec<Memory> {
    let mut all = Vec::new();
    // One after the other, each with primitives of its own.
    let mut add = |memory: Memory, threads: Option<Threads>| all.push(Memory { threads, ..memory });

    let mutex = PyMutex::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(mutex.lock(py)),
        waiting: |py: Python<'_>| drop(mutex.lock(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = mutex.lock(py);
            meanwhile();
        },
    };
    add(
        size!("PyMutex", PyMutex<()>, PyMutex<Object>),
        Some(threads.measure(py)),
    );
    #[cfg(Py_3_13)]
    {
        use pyo3::sync::nonpoison::PyMutex;
        let mutex = PyMutex::new(());
        let threads = Waiting {
            using: |_: Python<'_>| drop(mutex.lock()),
            waiting: |_: Python<'_>| drop(mutex.lock()),
            keeping: |_: Python<'_>, meanwhile: &mut dyn FnMut()| {
                let _guard = mutex.lock();
                meanwhile();
            },
        };
        add(
            size!(
                "pyo3::sync::nonpoison::PyMutex",
                PyMutex<()>,
                PyMutex<Object>
            ),
            Some(threads.measure(py)),
        );
        add(
            size!(
                "pyo3::sync::PyMutex",
                pyo3::sync::PyMutex<()>,
                pyo3::sync::PyMutex<Object>
            ),
            None,
        );
    }
    let mutex = std::sync::Mutex::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(mutex.lock_py_attached(py)),
        waiting: |py: Python<'_>| drop(mutex.lock_py_attached(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = mutex.lock_py_attached(py);
            meanwhile();
        },
    };
    add(
        size!(
            "std::sync::Mutex",
            std::sync::Mutex<()>,
            std::sync::Mutex<Object>
        ),
        Some(threads.measure(py)),
    );
    let mutex = parking_lot::Mutex::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(mutex.lock_py_attached(py)),
        waiting: |py: Python<'_>| drop(mutex.lock_py_attached(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = mutex.lock_py_attached(py);
            meanwhile();
        },
    };
    add(
        size!(
            "parking_lot::Mutex",
            parking_lot::Mutex<()>,
            parking_lot::Mutex<Object>
        ),
        Some(threads.measure(py)),
    );

    let lock = PyRwLock::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(lock.read(py)),
        waiting: |py: Python<'_>| drop(lock.read(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = lock.write(py);
            meanwhile();
        },
    };
    add(
        size!("PyRwLock", PyRwLock<()>, PyRwLock<Object>),
        Some(threads.measure(py)),
    );
    let lock = std::sync::RwLock::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(lock.read_py_attached(py)),
        waiting: |py: Python<'_>| drop(lock.read_py_attached(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = lock.write_py_attached(py);
            meanwhile();
        },
    };
    add(
        size!(
            "std::sync::RwLock",
            std::sync::RwLock<()>,
            std::sync::RwLock<Object>
        ),
        Some(threads.measure(py)),
    );
    let lock = parking_lot::RwLock::new(());
    let threads = Waiting {
        using: |py: Python<'_>| drop(lock.read_py_attached(py)),
        waiting: |py: Python<'_>| drop(lock.read_py_attached(py)),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            let _guard = lock.write_py_attached(py);
            meanwhile();
        },
    };
    add(
        size!(
            "parking_lot::RwLock",
            parking_lot::RwLock<()>,
            parking_lot::RwLock<Object>
        ),
        Some(threads.measure(py)),
    );

    let cell = PyOnceLock::new();
    let threads = Waiting {
        using: |_: Python<'_>| (),
        waiting: |py: Python<'_>| *cell.wait(py),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| *cell.get_or_init(py, meanwhile),
    };
    add(
        size!("PyOnceLock", PyOnceLock<()>, PyOnceLock<Object>),
        Some(threads.measure(py)),
    );
    let cell = pyo3::sync::PyOnceLock::new();
    let threads = Waiting {
        using: |_: Python<'_>| (),
        waiting: |py: Python<'_>| *cell.get_or_init(py, || ()),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| *cell.get_or_init(py, meanwhile),
    };
    add(
        size!(
            "pyo3::sync::PyOnceLock",
            pyo3::sync::PyOnceLock<()>,
            pyo3::sync::PyOnceLock<Object>
        ),
        Some(threads.measure(py)),
    );
    add(
        size!(
            "std::sync::OnceLock",
            std::sync::OnceLock<()>,
            std::sync::OnceLock<Object>
        ),
        None,
    );
    add(
        size!(
            "once_cell::sync::OnceCell",
            once_cell::sync::OnceCell<()>,
            once_cell::sync::OnceCell<Object>
        ),
        None,
    );
    add(size!("PyLazy", PyLazy<()>, PyLazy<Object>), None);
    add(size!("PyOnce", PyOnce), None);
    add(size!("std::sync::Once", std::sync::Once), None);

    let (mutex, condvar) = (PyMutex::new(false), PyCondvar::new());
    let threads = Waiting {
        using: |py: Python<'_>| drop(mutex.lock(py)),
        waiting: |py: Python<'_>| condvar.wait_while(&mut mutex.lock(py), |over| !*over),
        keeping: |py: Python<'_>, meanwhile: &mut dyn FnMut()| {
            meanwhile();
            *mutex.lock(py) = true;
            condvar.notify_all();
        },
    };
    add(size!("PyCondvar", PyCondvar), Some(threads.measure(py)));
    add(size!("std::sync::Condvar", std::sync::Condvar), None);
    add(size!("parking_lot::Condvar", parking_lot::Condvar), None);
    add(size!("PyBarrier", PyBarrier), None);
    add(size!("std::sync::Barrier", std::sync::Barrier), None);

    add(
        size!("PyProtected", PyProtected<()>, PyProtected<Object>),
        None,
    );
    add(
        size!(
            "RefCell, which is no lock",
            std::cell::RefCell<()>,
            std::cell::RefCell<Object>
        ),
        None,
    );
    add(
        size!("UnsafeCell", UnsafeCell<()>, UnsafeCell<Object>),
        None,
    );
    add(
        size!("ModuleState", ModuleState<super::module_state::Number>),
        None,
    );
    add(
        size!("PySnapshot", PySnapshot<()>, PySnapshot<Object>),
        None,
    );
    all
}

/// What threads do with a primitive.
struct Waiting<U, W, K> {
    /// Use it while it is free.
    using: U,
    /// Wait for it, while `keeping` keeps it.
    waiting: W,
    /// Calls what it is given while it lets nobody in, and lets all in then.
    keeping: K,
}

/// So many that what doubles is counted fairly.
const THREADS: usize = 32;

/// Until the threads sleep. There is nothing to ask: for the peers nobody knows who waits.
const FALLING_ASLEEP: Duration = Duration::from_millis(100);

impl<U, W, K> Waiting<U, W, K>
where
    U: Fn(Python<'_>) + Sync,
    W: Fn(Python<'_>) + Sync,
    K: Fn(Python<'_>, &mut dyn FnMut()),
{
    fn measure(self, py: Python<'_>) -> Threads {
        COUNTS.store(true, Ordering::Relaxed);
        let stages: [Barrier; 4] = [(); 4].map(|()| Barrier::new(THREADS + 1));
        let (using, waiting) = (&self.using, &self.waiting);
        let visitor = || {
            Python::attach(|py| {
                py.detach(|| stages[0].wait());
                using(py);
                py.detach(|| stages[1].wait());
                py.detach(|| stages[2].wait());
                waiting(py);
            });
            stages[3].wait();
        };
        let bytes = || BYTES.load(Ordering::Relaxed) as f64 / THREADS as f64;
        let mut counted = [0.0; 3];
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(visitor);
            }
            // All have come, and are attached for the first time, before the count begins.
            py.detach(|| thread::sleep(FALLING_ASLEEP));
            counted[0] = bytes();
            py.detach(|| stages[0].wait());
            py.detach(|| stages[1].wait());
            counted[1] = bytes();
            (self.keeping)(py, &mut || {
                py.detach(|| {
                    stages[2].wait();
                    thread::sleep(FALLING_ASLEEP);
                });
                counted[2] = bytes();
            });
            py.detach(|| stages[3].wait());
        });
        COUNTS.store(false, Ordering::Relaxed);
        Threads {
            used: counted[1] - counted[0],
            waits: counted[2] - counted[1],
        }
    }
}

pub(crate) fn table(all: &[Memory]) -> String {
    let header = [
        "",
        "T = ()",
        "T = Py<PyAny>",
        "a thread that used it",
        "a thread that waits",
    ];
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    let bytes = |bytes: Option<f64>| bytes.map_or(String::new(), |bytes| format!("{bytes:.0}"));
    for memory in all {
        table.add_row([
            memory.name.to_owned(),
            memory.empty.to_string(),
            memory
                .with_object
                .map_or(String::new(), |size| size.to_string()),
            bytes(memory.threads.as_ref().map(|threads| threads.used)),
            bytes(memory.threads.as_ref().map(|threads| threads.waits)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("memory (bytes)\n{table}\n")
}

//! What tests ask of the interpreter itself.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::harness::{Sleeper, is_free_threaded, wait_until_detached};

/// Runs the garbage collector. Without a GIL, this waits until every other thread is detached or at a safe point.
pub(crate) fn collect(py: Python<'_>) {
    let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
    collected.expect("the collector runs");
}

/// Waits until another thread waits for the lock of a module that is being imported.
pub(crate) fn wait_until_an_import_blocks(py: Python<'_>) -> PyResult<()> {
    let code = c"
import sys, time
def wait(deadline=time.monotonic() + 8):
    while time.monotonic() < deadline:
        for frame in sys._current_frames().values():
            code = frame.f_code
            if code.co_name == 'acquire' and 'importlib._bootstrap' in code.co_filename:
                return
        time.sleep(0.001)
    raise TimeoutError('no thread has come to wait for an import lock')
";
    let module = PyModule::from_code(py, code, c"import_blocks.py", c"import_blocks")?;
    module.call_method0("wait").map(drop)
}

/// Runs `body` and panics if this thread let go of the interpreter meanwhile.
///
/// Another thread sleeps until it can slip in. With a GIL it waits for that and has demanded it, so that this thread, should
/// it let go, does not get it back before; `body` runs no Python code, and so does not give in to the demand. Without a
/// GIL it waits for a critical section that this thread is in, and which a detachment suspends; a lock of CPython's is handed
/// on when a thread has waited for it for a millisecond.
pub(crate) fn without_letting_go(py: Python<'_>, body: impl FnOnce(Python<'_>)) -> PyResult<()> {
    let sys = py.import("sys")?;
    let interval = sys.call_method0("getswitchinterval")?;
    sys.call_method1("setswitchinterval", (1e-6,))?;
    let object = py.eval(c"[]", None, None)?.unbind();
    // Asked of the interpreter: an extension for both kinds cannot tell when it is compiled.
    let is_free_threaded = is_free_threaded(py);
    let (other, inside) = (Sleeper::default(), AtomicBool::new(false));
    let panic = thread::scope(|scope| {
        let panic = in_section(object.bind(py), || {
            scope.spawn(|| {
                if is_free_threaded {
                    Python::attach(|py| {
                        other.announce();
                        in_section(object.bind(py), || inside.store(true, SeqCst));
                    });
                } else {
                    other.announce();
                    Python::attach(|_| inside.store(true, SeqCst));
                }
            });
            // Attached, as this must not let go either; the other thread needs nothing from this one to get there.
            wait_until_detached("the other thread sleeps", || other.is_asleep());
            thread::sleep(Duration::from_millis(5));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(py)));
            let slipped_in = inside.load(SeqCst);
            result.err().or_else(|| {
                slipped_in.then(|| {
                    Box::new("this thread let go of the interpreter") as Box<dyn Any + Send>
                })
            })
        });
        // The other thread ends only if it is let in.
        py.detach(|| {
            wait_until_detached("the other thread has been let in", || inside.load(SeqCst))
        });
        panic
    });
    sys.call_method1("setswitchinterval", (interval,))?;
    panic.map_or(Ok(()), |panic| std::panic::resume_unwind(panic))
}

/// Runs `body` in a critical section of `object`, where there is such a thing.
fn in_section<R>(object: &Bound<'_, PyAny>, body: impl FnOnce() -> R) -> R {
    #[cfg(Py_GIL_DISABLED)]
    {
        use pyo3::ffi::{PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_End};

        struct Section(PyCriticalSection);
        impl Drop for Section {
            fn drop(&mut self) {
                // SAFETY: begun below, on this thread, and not moved since: it is boxed.
                unsafe { PyCriticalSection_End(&mut self.0) };
            }
        }
        // SAFETY: zeros are what `PyCriticalSection_Begin` expects to overwrite.
        let mut section = Box::new(Section(unsafe { std::mem::zeroed() }));
        // SAFETY: the object is alive as long as it is borrowed, and the thread attached, since it has a `Bound`.
        unsafe { PyCriticalSection_Begin(&mut section.0, object.as_ptr()) };
        body()
    }
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        body()
    }
}

//! When the process registers for `membarrier`, and what happens in a sandbox that forbids it.

use crate::registry::Module;

/// Without the system call there is nothing to test.
#[cfg(not(target_os = "linux"))]
pub(crate) const MODULE: Module = Module {
    tests: &[],
    scenarios: &[],
};

#[cfg(target_os = "linux")]
pub(crate) use linux::MODULE;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_int, c_void};
    use std::mem;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use pyo3::prelude::*;
    use pyo3_sync::{ModuleData, ModuleState};

    use super::*;
    use crate::harness::{child, finish, on_threads, sanitizer, wait_until};
    use crate::interpreter::collect;
    use crate::{scenario, test};

    const CHILD_LIMIT: Duration = Duration::from_secs(8);

    /// Set in builds that register.
    const REGISTERS: bool = cfg!(all(Py_GIL_DISABLED, not(pyo3_sync_portable)));

    /// Applies `action` to every `membarrier` of this process from here on.
    fn filter_membarrier(action: u32) {
        let statement = |code: u32, jump_if_false: u8, k: u32| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: jump_if_false,
            k,
        };
        let number = libc::SYS_membarrier as u32;
        let mut filter = [
            // The number of the call is the first field of `seccomp_data`.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
            statement(libc::BPF_RET | libc::BPF_K, 0, action),
            statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the program and its filter outlive the calls, which copy them.
        let is_installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    libc::SECCOMP_FILTER_FLAG_TSYNC,
                    &raw const program,
                ) == 0
        };
        assert!(is_installed, "{}", std::io::Error::last_os_error());
    }

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    struct Counted;

    impl ModuleData for Counted {}

    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, SeqCst);
        }
    }

    /// Makes states, reads them on several threads, and drops them meanwhile.
    fn use_module_state(py: Python<'_>) -> PyResult<()> {
        static STATE: ModuleState<Counted> = ModuleState::new();
        for _ in 0..10 {
            let module = PyModule::new(py, "counts")?;
            STATE.init(&module, || {
                ALIVE.fetch_add(1, SeqCst);
                Ok(Counted)
            })?;
            let module = std::sync::Mutex::new(Some(module.unbind()));
            on_threads(py, 3, |py, number| {
                for _ in 0..100 {
                    drop(STATE.find(py));
                }
                if number == 0 {
                    drop(module.lock().expect("no panic").take());
                    collect(py);
                }
            });
            collect(py);
            wait_until(py, "the state is dropped", || ALIVE.load(SeqCst) == 0);
        }
        Ok(())
    }

    fn a_filter_that_fails_membarrier_is_tolerated(py: Python<'_>) -> PyResult<()> {
        let command = child(
            py,
            "membarrier::linux::uses_module_state_without_membarrier",
        )?;
        finish(py, command, CHILD_LIMIT)?.expect_success();
        Ok(())
    }

    fn uses_module_state_without_membarrier(py: Python<'_>) -> PyResult<()> {
        filter_membarrier(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
        use_module_state(py)
    }

    /// A process that would be killed for the call switches it off; a GIL build never makes it.
    fn the_switch_avoids_membarrier(py: Python<'_>) -> PyResult<()> {
        let scenario = "membarrier::linux::uses_module_state_or_is_killed";
        let mut switched_off = child(py, scenario)?;
        switched_off.env("PYO3_SYNC_MEMBARRIER", "0");
        finish(py, switched_off, CHILD_LIMIT)?.expect_success();
        let mut switched_on = child(py, scenario)?;
        switched_on.env_remove("PYO3_SYNC_MEMBARRIER");
        let finished = finish(py, switched_on, CHILD_LIMIT)?;
        let succeeded = finished.status.is_some_and(|status| status.success());
        assert_eq!(succeeded, !REGISTERS, "{finished:?}");
        Ok(())
    }

    fn uses_module_state_or_is_killed(py: Python<'_>) -> PyResult<()> {
        filter_membarrier(libc::SECCOMP_RET_KILL_PROCESS);
        use_module_state(py)
    }

    /// The registration takes milliseconds if the process has threads.
    fn registers_only_while_detached(py: Python<'_>) -> PyResult<()> {
        let mut command = child(py, "membarrier::linux::traps_membarrier")?;
        command.env_remove("PYO3_SYNC_MEMBARRIER");
        finish(py, command, CHILD_LIMIT)?.expect_success();
        Ok(())
    }

    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static ATTACHED_CALLS: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" {
        // Not declared by PyO3 for the stable ABI.
        fn PyGILState_Check() -> c_int;
    }

    /// Runs in place of the system call, on the thread that makes it.
    extern "C" fn count_call(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: the interpreter is initialized, and the function reads a thread-local variable.
        if unsafe { PyGILState_Check() } != 0 {
            ATTACHED_CALLS.fetch_add(1, SeqCst);
        }
    }

    fn traps_membarrier(py: Python<'_>) -> PyResult<()> {
        // SAFETY: zeros are a valid `sigaction`, and the handler touches atomics only.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = count_call as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()),
                0
            );
        }
        filter_membarrier(libc::SECCOMP_RET_TRAP);
        use_module_state(py)?;
        assert_eq!(ATTACHED_CALLS.load(SeqCst), 0);
        // One attempt decides for the whole process.
        assert_eq!(CALLS.load(SeqCst), usize::from(REGISTERS));
        Ok(())
    }

    fn sanitized(_: Python<'_>) -> Option<String> {
        sanitizer().map(|sanitizer| format!("the {sanitizer} sanitizer makes calls of its own"))
    }

    pub(crate) const MODULE: Module = Module {
        tests: &[
            test!(a_filter_that_fails_membarrier_is_tolerated).unless(sanitized),
            test!(the_switch_avoids_membarrier)
                .unless(sanitized)
                .limit(20),
            test!(registers_only_while_detached).unless(sanitized),
        ],
        scenarios: &[
            scenario!(uses_module_state_without_membarrier),
            scenario!(uses_module_state_or_is_killed),
            scenario!(traps_membarrier),
        ],
    };
}

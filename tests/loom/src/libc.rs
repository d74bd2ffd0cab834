//! The calls to the system: no thread forks, and fences of the whole process are as the model wants them.

#![allow(non_camel_case_types, non_upper_case_globals)]
#![allow(clippy::missing_safety_doc)]

use crate::{barrier, interpreter};

pub type c_int = i32;
pub type Handler = Option<unsafe extern "C" fn()>;

pub const SYS_membarrier: i64 = 324;

pub unsafe fn pthread_atfork(_: Handler, _: Handler, _: Handler) -> c_int {
    0
}

pub unsafe fn pthread_self() -> u64 {
    0
}

pub unsafe fn syscall(number: i64, _command: c_int, _: c_int, _: c_int) -> i64 {
    assert_eq!(number, SYS_membarrier);
    if !interpreter::has_process_fence() {
        return -1;
    }
    barrier::make();
    0
}

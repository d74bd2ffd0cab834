use pyo3::prelude::*;

static mut CALLS: u64 = 0; //~ static-mut

#[pyfunction]
fn call() -> u64 {
    static mut INNER: Vec<String> = Vec::new(); //~ static-mut
    unsafe {
        CALLS += 1;
        CALLS
    }
}

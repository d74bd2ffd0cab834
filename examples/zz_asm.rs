use pyo3::prelude::*;
use pyo3_sync::{ModuleState, State};
pub struct Number(u64);
impl State for Number {}
static STATE: ModuleState<Number> = ModuleState::new();
#[inline(never)]
#[unsafe(no_mangle)]
pub fn the_get(module: &Bound<'_, PyModule>) -> u64 {
    STATE.get(module).expect("there").0
}
#[inline(never)]
#[unsafe(no_mangle)]
pub fn the_find(module: &Bound<'_, PyModule>) -> u64 {
    STATE.find(module.py()).expect("there").0
}
fn main() {
    Python::initialize();
    Python::attach(|py| {
        let m = PyModule::new(py, "m").unwrap();
        STATE.init(&m, || Ok(Number(1))).unwrap();
        for f in [the_get, the_find] {
            let t = std::time::Instant::now();
            let mut s = 0;
            for _ in 0..10_000_000 {
                s += f(std::hint::black_box(&m));
            }
            println!("{s} {:?}", t.elapsed() / 10_000_000);
        }
    });
}

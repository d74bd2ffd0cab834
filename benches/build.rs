//! PyO3's `cfg`s, since some of its mutexes exist only for some Pythons.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    pyo3_build_config::use_pyo3_cfgs();
}

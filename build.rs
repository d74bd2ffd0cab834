//! Turns the configuration that PyO3 was built with into the few `cfg`s of `src/build_config.rs`.
//!
//! PyO3 hands its configuration to the build scripts of the crates that depend on `pyo3-ffi` directly, in
//! `DEP_PYTHON_PYO3_CONFIG`: hex-encoded lines of `key=value`. Reading it, rather than asking
//! `pyo3-build-config`, makes sure that the answer is about the very PyO3 this build links with: a ranged
//! build-dependency could resolve to another version than PyO3's own.

use std::{collections::HashMap, env};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_BUILD_EXTENSION_MODULE");
    println!(
        "cargo::rustc-check-cfg=cfg(Py_GIL_DISABLED, Py_3_13, PyPy, PyCriticalSection_BeginMutex, PyType_GetModule)"
    );

    let config = env::var("DEP_PYTHON_PYO3_CONFIG")
        .expect("pyo3-ffi 0.26 to 0.30 passes its configuration on to this build script");
    let python = Python::from_config(&decode_hex(&config));
    if let Some(folder) = &python.library {
        // For our own examples and documentation tests, which embed that Python: without this they start only where
        // the system happens to look. Nothing of it reaches the crates that depend on this one.
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
    if python.free_threaded {
        println!("cargo::rustc-cfg=Py_GIL_DISABLED");
    }
    if python.pypy {
        println!("cargo::rustc-cfg=PyPy");
    }
    if python.minor >= 13 {
        println!("cargo::rustc-cfg=Py_3_13");
    }
    if !python.limited || python.minor >= 10 {
        println!("cargo::rustc-cfg=PyType_GetModule");
    }
    if python.has_sections_on_mutexes() {
        println!("cargo::rustc-cfg=PyCriticalSection_BeginMutex");
    }
}

/// What this crate needs to know of the Python that PyO3 targets.
struct Python {
    /// The lowest 3.x that the build must run on: the minimum of `abi3`, not the version of the host.
    minor: u32,
    /// Whether it is PyPy, whose C API has names of its own.
    pypy: bool,
    /// Whether several threads can be attached at once. True of `abi3t`, which loads in both kinds.
    free_threaded: bool,
    /// Whether only the stable ABI may be used.
    limited: bool,
    /// Whether PyO3 is 0.29 or later.
    recent_pyo3: bool,
    /// The folder of its shared library, if it is linked with.
    library: Option<String>,
}

impl Python {
    fn from_config(config: &str) -> Self {
        let values: HashMap<&str, &str> = config
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        // PyO3 0.29 and later: `target_abi=CPython-KIND-3.x`, perhaps with `-debug` behind it.
        // Before: `version=3.x` is the target's already, and `build_flags` tells the kind.
        let mut target_abi = values.get("target_abi").unwrap_or(&"").split('-').skip(1);
        let kind = target_abi.next();
        let version = target_abi.next().or(values.get("version").copied());
        let build_flags = values.get("build_flags").copied().unwrap_or("");
        let has_flag = |flag| build_flags.split(',').any(|other| other == flag);
        let is_linked = values.get("shared") == Some(&"true")
            && env::var_os("CARGO_CFG_UNIX").is_some()
            && env::var_os("PYO3_BUILD_EXTENSION_MODULE").is_none();
        Python {
            limited: match kind {
                Some(kind) => kind.starts_with("abi3"),
                // On a free-threaded Python older versions of PyO3 take `abi3` for a wish that cannot be fulfilled.
                None => values.get("abi3") == Some(&"true") && !has_flag("Py_GIL_DISABLED"),
            },
            recent_pyo3: kind.is_some(),
            library: values
                .get("lib_dir")
                .filter(|_| is_linked)
                .map(|folder| folder.to_string()),
            pypy: values.get("implementation") == Some(&"PyPy"),
            minor: version
                .and_then(|version| version.strip_prefix("3."))
                .and_then(|minor| minor.parse().ok())
                .expect("PyO3's configuration names a Python 3 version"),
            free_threaded: match kind {
                Some(kind) => kind == "free_threaded" || kind == "abi3t",
                None => has_flag("Py_GIL_DISABLED"),
            },
        }
    }

    /// Whether a critical section can be held on a mutex that belongs to no object: `PyCriticalSection_BeginMutex`, public from
    /// Python 3.14 on. PyO3 declares it from 0.28 on; we can do without its declaration everywhere but on Windows, where
    /// it matters how PyO3 was told to link.
    fn has_sections_on_mutexes(&self) -> bool {
        let is_declared = env::var_os("CARGO_CFG_UNIX").is_some() || self.recent_pyo3;
        self.free_threaded && !self.limited && self.minor >= 14 && is_declared
    }
}

fn decode_hex(hex: &str) -> String {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    let bytes = hex
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect();
    String::from_utf8(bytes).expect("PyO3's configuration is text")
}

//! Sets the `cfg`s of `src/python/build.rs` from the configuration of PyO3.
//!
//! `pyo3-ffi` passes its configuration to the build scripts of direct dependents, as hex-encoded
//! lines of `key=value` in `DEP_PYTHON_PYO3_CONFIG`. A build dependency on `pyo3-build-config`
//! could resolve to another version than that of the linked PyO3.

use std::{collections::HashMap, env};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_BUILD_EXTENSION_MODULE");
    println!(
        "cargo::rustc-check-cfg=cfg(Py_GIL_DISABLED, Py_3_13, PyPy, \
         PyCriticalSection_BeginMutex, PyType_GetModule)"
    );

    let config = env::var("DEP_PYTHON_PYO3_CONFIG")
        .expect("pyo3-ffi 0.26 to 0.30 passes its configuration on to this build script");
    let python = Python::from_config(&decode_hex(&config));
    if let Some(folder) = &python.library {
        // The examples and doctests of this crate embed that Python, and its library may be outside
        // the system's search path. The argument does not affect dependent crates.
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

/// The Python that PyO3 targets.
struct Python {
    /// The minor version of the oldest supported Python 3: with `abi3`, not that of the host.
    minor: u32,
    /// `true` for PyPy, whose C API uses other names.
    pypy: bool,
    /// `true` if several threads can be attached at once. Also `true` for `abi3t`.
    free_threaded: bool,
    /// `true` if only the stable ABI may be used.
    limited: bool,
    /// `true` for PyO3 0.29 and later.
    recent_pyo3: bool,
    /// The directory of the shared library, if the build links with it.
    library: Option<String>,
}

impl Python {
    fn from_config(config: &str) -> Self {
        let values: HashMap<&str, &str> = config
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        // From PyO3 0.29, `target_abi` is `CPython-KIND-3.x`, optionally followed by `-debug`.
        // Before, `version` is the target version, and `build_flags` contains the kind.
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
                // On a free-threaded Python, PyO3 before 0.29 ignores `abi3`.
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

    /// Returns `true` if the build can use `PyCriticalSection_BeginMutex`.
    ///
    /// The function is public from Python 3.14. PyO3 declares it from 0.28. On Unix, this crate can
    /// declare the function instead. On Windows, the declaration depends on how PyO3 links.
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

//! Lets the embedded run find the libpython that it was linked with, wherever that interpreter is installed.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(Py_GIL_DISABLED, abi3_py39, abi3t, pyo3_before_0_29)");
    let configuration =
        env::var("DEP_PYTHON_PYO3_CONFIG").expect("pyo3-ffi tells how it was built");
    let configuration = text(&configuration);
    // From 0.29 on the configuration names the ABI: `CPython-KIND-3.x`.
    let abi = value(&configuration, "target_abi");
    let is_abi3t = abi.is_some_and(|abi| abi.contains("-abi3t-"));
    let has_no_gil = |flags: &str| flags.contains("Py_GIL_DISABLED");
    if is_abi3t || value(&configuration, "build_flags").is_some_and(has_no_gil) {
        println!("cargo::rustc-cfg=Py_GIL_DISABLED");
    }
    if is_abi3t {
        println!("cargo::rustc-cfg=abi3t");
    }
    if abi.is_some_and(|abi| abi.ends_with("-abi3-3.9")) {
        println!("cargo::rustc-cfg=abi3_py39");
    }
    if abi.is_none() {
        println!("cargo::rustc-cfg=pyo3_before_0_29");
    }
    if let (Some("true"), Some(folder)) = (
        value(&configuration, "shared"),
        value(&configuration, "lib_dir"),
    ) {
        if env::var_os("CARGO_CFG_UNIX").is_some() {
            println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{folder}");
        }
    }
}

/// The value of `key` in lines of `key=value`.
fn value<'a>(lines: &'a str, key: &str) -> Option<&'a str> {
    lines
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Text that came as two hexadecimal digits a byte.
fn text(digits: &str) -> String {
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    });
    String::from_utf8(bytes.collect()).expect("text")
}

//! The ports: the source of each extension, its changes, and its tests.

use pythons::Interpreter;

/// An extension that is ported to this crate.
pub(super) struct Port {
    pub(super) name: &'static str,
    pub(super) source: Source,
    /// Changes that the sources need to be built here, before and after alike.
    pub(super) preparations: &'static [Change],
    /// The port.
    pub(super) changes: &'static [Change],
    pub(super) suite: Suite,
    pub(super) module: Module,
    /// The Python code of a probe: `first()`, which each thread calls.
    pub(super) probe: &'static str,
    /// Packages that its tests need.
    pub(super) packages: &'static [&'static str],
    /// Returns the reason if the original cannot be built for an interpreter.
    pub(super) not_before: fn(&Interpreter) -> Option<&'static str>,
    /// Returns the reason if the ported extension cannot be built for an interpreter.
    pub(super) not_after: fn(&Interpreter) -> Option<&'static str>,
    /// The port keeps the failures of the original under threads.
    pub(super) fails_as_before: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A source distribution on PyPI.
    Sdist {
        name: &'static str,
        version: &'static str,
    },
    /// A crate.
    Crate {
        name: &'static str,
        version: &'static str,
    },
    /// A folder of this workspace.
    Folder(&'static str),
}

/// A replacement of a text that is in a file exactly once. In `to`, `{pyo3-sync}` stands for the
/// folder of this crate.
pub(super) struct Change {
    pub(super) file: &'static str,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

pub(super) enum Suite {
    /// A folder of Python tests.
    Pytest {
        tests: &'static str,
        /// Tests that several threads cannot run at once, and why.
        for_one_thread: &'static [(&'static str, &'static str)],
    },
    /// `cargo test`, without the examples in the documentation.
    Cargo,
}

/// The extension module that the probes load; a Python suite uses it too.
pub(super) struct Module {
    /// The folder of its package or workspace, in that of the sources.
    pub(super) folder: &'static str,
    /// A folder of this workspace that is put there, if the sources have no extension module.
    pub(super) added: Option<&'static str>,
    pub(super) package: &'static str,
    /// Its name in Python.
    pub(super) name: &'static str,
}

/// Shown beside the deselected tests.
const ONE_CACHE: &str = "counts the entries of the cache of the process";

const JITER: Module = Module {
    folder: "",
    added: None,
    package: "jiter-python",
    name: "jiter",
};

/// Needs the type `Decimal`, which the extension imports into its cell.
const JITER_PROBE: &str = r#"
import jiter

def first():
    value = jiter.from_json(b'{"a": [1.5, 2.25]}', float_mode="decimal")
    assert repr(value["a"]) == "[Decimal('1.5'), Decimal('2.25')]", value
"#;

const JITER_TESTS: Suite = Suite::Pytest {
    tests: "crates/jiter-python/tests",
    for_one_thread: &[
        ("test_python_cache_usage_all", ONE_CACHE),
        ("test_python_cache_usage_keys", ONE_CACHE),
        ("test_python_cache_usage_none", ONE_CACHE),
    ],
};

const JITER_CHANGES: [Change; 2] = [
    Change {
        file: "crates/jiter/Cargo.toml",
        from: "num-bigint = { version",
        to: "pyo3-sync = { path = \"{pyo3-sync}\" }\nnum-bigint = { version",
    },
    Change {
        file: "crates/jiter/src/py_lossless_float.rs",
        from: "use pyo3::sync::PyOnceLock;",
        to: "use pyo3_sync::PyOnceLock;",
    },
];

const LEASES_DEPENDENCIES: Change = Change {
    file: "Cargo.toml",
    from: r#"pyo3 = { version = "0.25", features = ["extension-module"] }"#,
    to: r#"pyo3 = { version = "0.26", features = ["extension-module"] }
pyo3-sync = { path = "{pyo3-sync}" }"#,
};

const LEASES: Port = Port {
    name: "leases",
    source: Source::Folder("ports/leases"),
    preparations: &[],
    changes: &[
        LEASES_DEPENDENCIES,
        Change {
            file: "src/lib.rs",
            from: "use pyo3::sync::{GILOnceCell, GILProtected};",
            to: "use pyo3_sync::{PyMutex, PyOnceLock as GILOnceCell, PyProtected};",
        },
        // Python code runs while this is borrowed: a mutex, for which other threads wait.
        Change {
            file: "src/lib.rs",
            from: "by_precision: GILProtected<RefCell<Option<HashMap<u32, Py<PyAny>>>>>,",
            to: "by_precision: PyMutex<Option<HashMap<u32, Py<PyAny>>>>,",
        },
        Change {
            file: "src/lib.rs",
            from: "by_precision: GILProtected::new(RefCell::new(None)),",
            to: "by_precision: PyMutex::new(None),",
        },
        Change {
            file: "src/lib.rs",
            from: "self.by_precision.get(py).borrow_mut();",
            to: "self.by_precision.lock(py);",
        },
        // No Python code runs while this is borrowed: a replacement of the same structure.
        Change {
            file: "src/lib.rs",
            from: "type Book = GILProtected<RefCell<Leases>>;",
            to: "type Book = PyProtected<Leases>;",
        },
        Change {
            file: "src/lib.rs",
            from: "action(&mut book.get(py).borrow_mut())",
            to: "book.with_mut(py, action)",
        },
        Change {
            file: "src/lib.rs",
            from: "Box::into_raw(Box::new(Book::new(RefCell::default())))",
            to: "Box::into_raw(Box::default())",
        },
        Change {
            file: "src/lib.rs",
            from: "use std::{\n    cell::RefCell,\n",
            to: "use std::{\n",
        },
    ],
    suite: Suite::Pytest {
        tests: "tests",
        for_one_thread: &[],
    },
    module: Module {
        folder: "",
        added: None,
        package: "leases",
        name: "leases",
    },
    probe: r#"
import leases

def first():
    context = leases.context("down", 5)
    assert context.prec == 5 and leases.context("down", 5) is context
    leases.lease(1, 0, 10)
"#,
    packages: &[],
    not_before: |interpreter| {
        if interpreter.free_threaded {
            Some("PyO3 0.25 has no GILProtected on free-threaded builds")
        } else if interpreter.minor > 13 {
            Some("PyO3 0.25 is for Python 3.13 at most")
        } else {
            None
        }
    },
    not_after: |_| None,
    fails_as_before: false,
};

pub(super) const PORTS: [Port; 5] = [
    Port {
        name: "jiter-0.12.0",
        source: Source::Sdist {
            name: "jiter",
            version: "0.12.0",
        },
        preparations: &[],
        changes: &JITER_CHANGES,
        suite: JITER_TESTS,
        module: JITER,
        probe: JITER_PROBE,
        packages: &["dirty-equals"],
        not_before: |_| None,
        not_after: |_| None,
        fails_as_before: false,
    },
    Port {
        name: "jiter-0.19.0",
        source: Source::Sdist {
            name: "jiter",
            version: "0.19.0",
        },
        // It would take longer to link than everything else together.
        preparations: &[Change {
            file: "Cargo.toml",
            from: "lto = \"fat\"\ncodegen-units = 1",
            to: "",
        }],
        changes: &JITER_CHANGES,
        suite: JITER_TESTS,
        module: JITER,
        probe: JITER_PROBE,
        packages: &["dirty-equals"],
        not_before: |_| None,
        not_after: |_| None,
        fails_as_before: false,
    },
    Port {
        name: "numpy-0.26.0",
        source: Source::Crate {
            name: "numpy",
            version: "0.26.0",
        },
        // It lies in the folder of this workspace, and is not part of it.
        preparations: &[Change {
            file: "Cargo.toml",
            from: "[package]",
            to: "[workspace]\n\n[package]",
        }],
        changes: &[
            Change {
                file: "Cargo.toml",
                from: "[dependencies.rustc-hash]",
                to: "[dependencies.pyo3-sync]\npath = \"{pyo3-sync}\"\n\n[dependencies.rustc-hash]",
            },
            Change {
                file: "src/npyffi/mod.rs",
                from: "use pyo3::{\n    sync::PyOnceLock,\n",
                to: "use pyo3_sync::PyOnceLock;\nuse pyo3::{\n",
            },
            Change {
                file: "src/npyffi/array.rs",
                from: "    ffi::{self, PyObject, PyTypeObject},
    sync::PyOnceLock,
};",
                to: "    ffi::{self, PyObject, PyTypeObject},
};
use pyo3_sync::PyOnceLock;",
            },
            Change {
                file: "src/npyffi/ufunc.rs",
                from: "use pyo3::{ffi::PyObject, sync::PyOnceLock};",
                to: "use pyo3::ffi::PyObject;\nuse pyo3_sync::PyOnceLock;",
            },
            Change {
                file: "src/borrow/shared.rs",
                from: "use pyo3::sync::PyOnceLock;",
                to: "use pyo3_sync::PyOnceLock;",
            },
            Change {
                file: "src/dtype.rs",
                from: "use pyo3::sync::PyOnceLock;",
                to: "use pyo3_sync::PyOnceLock;",
            },
            Change {
                file: "src/array_like.rs",
                from: "    sync::PyOnceLock,
    types::{PyAnyMethods, PyDict},
    Bound, FromPyObject, Py, PyAny, PyResult,
};",
                to: "    types::{PyAnyMethods, PyDict},
    Bound, FromPyObject, Py, PyAny, PyResult,
};
use pyo3_sync::PyOnceLock;",
            },
            Change {
                file: "src/datetime.rs",
                from: "use pyo3::sync::MutexExt;",
                to: "use pyo3_sync::ext::MutexExt;",
            },
            Change {
                file: "src/strings.rs",
                from: "use pyo3::sync::MutexExt;",
                to: "use pyo3_sync::ext::MutexExt;",
            },
        ],
        suite: Suite::Cargo,
        module: Module {
            folder: "probe",
            added: Some("ports/numpy_probe"),
            package: "numpy-probe",
            name: "numpy_probe",
        },
        // NumPy itself is imported by the extension.
        probe: r#"
import numpy_probe

def first():
    assert numpy_probe.total(range(10)) == 45.0
    assert numpy_probe.types() == ["datetime64[D]", "|S4"], numpy_probe.types()
"#,
        packages: &["numpy>=2"],
        not_before: |_| None,
        not_after: |_| None,
        fails_as_before: false,
    },
    // As in the crate numpy 0.22, to types that fit.
    LEASES,
    // The same in the smallest step: the removed types as they were.
    Port {
        name: "leases-compat",
        changes: &[
            LEASES_DEPENDENCIES,
            Change {
                file: "src/lib.rs",
                from: "use pyo3::sync::{GILOnceCell, GILProtected};",
                to: "use pyo3_sync::compat::{GILOnceCell, GILProtected};",
            },
        ],
        not_after: |interpreter| {
            let reason = "compat::GILProtected does not compile on free-threaded builds";
            interpreter.free_threaded.then_some(reason)
        },
        fails_as_before: true,
        ..LEASES
    },
];

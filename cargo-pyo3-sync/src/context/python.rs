//! Tables of operations of PyO3, the C API, `std` and other crates that run Python code or wait.
//!
//! An operation runs Python code if, for common objects, it calls a function or method written in
//! Python. Such a call may detach and let other threads run. Creating a string, cloning a reference
//! and getting the length of a list do not run Python code.

use syn::ExprMethodCall;

use super::{behaviour::WaitKind, names::Ty};

/// Methods that run Python code on any receiver, because only PyO3 has methods of this name.
const UNMISTAKABLE: [&str; 22] = [
    "call0",
    "call1",
    "call_method",
    "call_method0",
    "call_method1",
    "call_bound",
    "call1_bound",
    "call_method_bound",
    "call_method1_bound",
    "getattr",
    "setattr",
    "delattr",
    "hasattr",
    "getattr_opt",
    "try_iter",
    "is_truthy",
    "rich_compare",
    "check_signals",
    "import_bound",
    "eval_bound",
    "run_bound",
    "write_unraisable",
];

/// Methods of objects that classes written in Python may define.
const OF_OBJECTS: [&str; 42] = [
    "call",
    "repr",
    "str",
    "len",
    "hash",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "compare",
    "add",
    "sub",
    "mul",
    "div",
    "floor_div",
    "rem",
    "pow",
    "matmul",
    "neg",
    "pos",
    "abs",
    "bitand",
    "bitor",
    "bitxor",
    "contains",
    "get_item",
    "set_item",
    "del_item",
    "iter",
    "dir",
    "not",
    "bool",
    "is_instance",
    "is_subclass",
    "enter",
    "exit",
    "next",
    "import",
    "run",
    "eval",
];

/// Classes whose own methods run no Python code.
const PLAIN_CLASSES: [&str; 18] = [
    "PyDict",
    "PyList",
    "PyTuple",
    "PySet",
    "PyFrozenSet",
    "PyString",
    "PyBytes",
    "PyByteArray",
    "PyInt",
    "PyLong",
    "PyFloat",
    "PyBool",
    "PyCapsule",
    "PyModule",
    "PySlice",
    "PyDateTime",
    "PyDelta",
    "PyWeakrefReference",
];

pub fn method_into_python(receiver: &Ty, method: &str, arguments: usize, first: &Ty) -> bool {
    if UNMISTAKABLE.contains(&method) {
        let foreign = !receiver.is_unknown() && !receiver.name.starts_with("pyo3::");
        return !foreign;
    }
    match receiver.name.as_str() {
        "pyo3::Python" => {
            matches!(method, "import" | "run" | "eval" | "check_signals") && arguments >= 1
                || method == "check_signals"
        }
        "pyo3::PyErr" => matches!(method, "print" | "display" | "print_and_set_sys_last_vars"),
        "pyo3::Bound" | "pyo3::Py" => {
            let class = receiver.argument(0);
            let class = class.last();
            if class == "PyIterator" {
                return method == "next";
            }
            if class.is_empty() || !receiver.argument(0).name.starts_with("pyo3::") {
                // A class of the checked crate: its methods are in the index, and PyO3's own are
                // rare.
                return matches!(method, "call" | "repr" | "str") && class.is_empty();
            }
            if PLAIN_CLASSES.contains(&class) {
                // A dictionary hashes and compares its keys, which may have any class.
                let by_key = matches!(
                    method,
                    "get_item" | "set_item" | "contains" | "del_item" | "add"
                );
                let any_key = matches!(first.name.as_str(), "pyo3::Bound" | "pyo3::Py")
                    && matches!(first.argument(0).last(), "PyAny" | "PyTuple");
                return matches!(class, "PyDict" | "PySet") && by_key && any_key;
            }
            if class == "PyType" {
                return method == "call";
            }
            OF_OBJECTS.contains(&method)
        }
        _ => false,
    }
}

/// Matches functions such as `PyModule::import(py, ..)`.
pub fn function_into_python(owner: &Ty, name: &str) -> bool {
    match owner.name.as_str() {
        "pyo3::PyModule" => matches!(
            name,
            "import" | "import_bound" | "from_code" | "from_code_bound"
        ),
        "pyo3::PyIterator" => matches!(name, "from_object" | "from_bound_object"),
        "pyo3::PyErr" => matches!(name, "warn" | "warn_bound"),
        _ => false,
    }
}

/// Returns `true` for a reference to an object of unknown class, whose `__del__` may run any code.
pub fn is_object(ty: &Ty) -> bool {
    ty.is("pyo3::Py")
        && matches!(
            ty.argument(0).last(),
            "PyAny" | "PyList" | "PyDict" | "PySet" | "PyTuple" | "PyFunction"
        )
}

/// Returns `true` for any reference to an object.
pub fn is_reference(ty: &Ty) -> bool {
    matches!(
        ty.name.as_str(),
        "pyo3::Py" | "pyo3::PyBackedStr" | "pyo3::PyBackedBytes"
    )
}

/// Returns the C API function that a path names: `ffi::..`, `pyo3_ffi::..`, or an imported name.
pub fn ffi_name(path: &[String]) -> Option<&str> {
    let last = path.last()?;
    let name = last.strip_prefix('_').unwrap_or(last);
    let rest = name.strip_prefix("Py")?;
    let (class, function) = rest.split_once('_')?;
    let plausible = class.chars().all(char::is_alphanumeric)
        && function.chars().next().is_some_and(char::is_uppercase);
    plausible.then_some(last)
}

/// Returns the name of a C API function if it runs Python code.
pub fn ffi_that_runs_python(name: &str) -> Option<&str> {
    let runs = name.starts_with("PyObject_Call")
        || name.starts_with("PyObject_GetAttr")
        || name.starts_with("PyObject_SetAttr")
        || name.starts_with("PyImport_Import")
        || name.starts_with("PyRun_")
        || matches!(
            name,
            "PyObject_Str"
                | "PyObject_Repr"
                | "PyObject_RichCompare"
                | "PyObject_RichCompareBool"
                | "PyObject_Hash"
                | "PyObject_IsTrue"
                | "PyObject_GetIter"
                | "PyIter_Next"
                | "PyEval_SaveThread"
                | "PyObject_IsInstance"
                | "PyErr_CheckSignals"
                | "PyObject_GetItem"
                | "PyObject_SetItem"
                | "PyGC_Collect"
        );
    runs.then_some(name)
}

/// Returns the kind of wait of a function, by its full path.
pub fn waiting_function(path: &[String]) -> Option<WaitKind> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["std", "thread", "sleep" | "sleep_ms" | "sleep_until"] => Some(WaitKind::Sleep),
        ["std", "thread", "park" | "park_timeout"] => Some(WaitKind::Condvar),
        ["std", "net", "TcpStream", "connect" | "connect_timeout"] => Some(WaitKind::Network),
        ["reqwest", "blocking", ..] if parts.last() == Some(&"get") => Some(WaitKind::Network),
        ["ureq", "get" | "post"] => None,
        [
            "futures" | "futures_executor" | "futures_lite" | "pollster" | "smol" | "async_std"
            | "async_io" | "tokio",
            ..,
            "block_on",
        ] => Some(WaitKind::BlockOn),
        _ => None,
    }
}

/// Returns the kind of wait of a method. If the type is unknown, matches the shape of the call.
pub fn waiting_method(receiver: &Ty, call: &ExprMethodCall, unwrapped: bool) -> Option<WaitKind> {
    let method = call.method.to_string();
    let arguments = call.args.len();
    let unknown = receiver.is_unknown();
    match (receiver.last(), method.as_str(), arguments) {
        ("Receiver", "recv" | "blocking_recv", 0)
            if !receiver.name.starts_with("tokio::") || method == "blocking_recv" =>
        {
            Some(WaitKind::Receive)
        }
        ("Receiver", "recv_timeout" | "recv_deadline", 1) => Some(WaitKind::Receive),
        ("SyncSender", "send", 1) => Some(WaitKind::Receive),
        (_, "recv", 0) if unknown && unwrapped => Some(WaitKind::Receive),
        (_, "recv_timeout", 1) if unknown && unwrapped => Some(WaitKind::Receive),
        (_, "blocking_recv", 0) | (_, "blocking_send", 1) => Some(WaitKind::Receive),
        ("JoinHandle" | "ScopedJoinHandle", "join", 0) => Some(WaitKind::Join),
        (_, "join", 0) if unknown && unwrapped => Some(WaitKind::Join),
        ("Barrier", "wait", 0) => Some(WaitKind::Barrier),
        ("Condvar", _, _) if method.starts_with("wait") => Some(WaitKind::Condvar),
        (_, "wait_while", 2) if unknown => Some(WaitKind::Condvar),
        (_, "block_on", 1) if receiver.local().is_none() => Some(WaitKind::BlockOn),
        ("Child", "wait" | "wait_with_output", 0) => Some(WaitKind::Process),
        ("Command", "output" | "status", 0) => Some(WaitKind::Process),
        _ => None,
    }
}

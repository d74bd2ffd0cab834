//! The events of a body, in source order, and the data that they refer to.

use crate::{
    context::{FunctionId, names::Ty},
    finding::Place,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Attached if the caller is.
    Caller,
    Attached,
    Detached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Lock,
    Read,
    Write,
}

/// An acquisition of a lock that is unaware of the interpreter.
#[derive(Debug, Clone)]
pub struct Lock {
    /// The type, such as `std::Mutex`. Empty if only its methods identify it as a lock.
    pub ty: String,
    pub mode: Mode,
    /// `Type.field` or `STATIC`. Acquisitions with the same identity may be of the same lock.
    pub identity: Option<String>,
    /// The expression before the field: `self`, `other`.
    pub instance: Option<String>,
    /// Acquired with `lock_py_attached` or `lock_attached`, or with a `try_*` method.
    pub never_waits_attached: bool,
    /// The type of the protected data.
    pub content: Ty,
}

#[derive(Debug)]
pub struct Guard {
    pub lock: Lock,
    pub place: Place,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitKind {
    Receive,
    Join,
    Barrier,
    Condvar,
    BlockOn,
    Sleep,
    Process,
    Network,
}

#[derive(Debug, Clone)]
pub enum Operation {
    /// Acquires a lock. The value is an index into the guards of the body.
    Acquire(usize),
    /// May run Python code, or release the GIL.
    Python(String),
    Attach,
    Detach,
    Wait(WaitKind, String),
    Call(FunctionId),
    /// Calls or mentions a function of the C API.
    Ffi {
        function: String,
        /// The origin of the first argument.
        first: Origin,
    },
    /// Drops a reference to an object, which may run its `__del__`.
    DropsObject(String),
    /// Iterates over a `PyDict`, `PySet` or `PyList`.
    Iterate {
        ty: String,
        origin: Origin,
    },
}

/// The origin of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Created here, and not shared yet.
    Fresh,
    /// Passed by the caller.
    Parameter,
    /// A field, a static, or an attribute of another object, which other threads can access.
    Shared,
    /// Returned by `PyObject_GetAttr`: an attribute that the object stores, or a new object.
    Attribute,
    Unknown,
}

#[derive(Debug)]
pub struct Event {
    pub operation: Operation,
    pub place: Place,
    pub state: State,
    /// The guards that are alive.
    pub held: Vec<usize>,
    /// The enclosing initializer.
    pub initialiser: Option<usize>,
    /// The enclosing parallel iteration.
    pub parallel: Option<usize>,
    /// `true` in a closure that another thread runs.
    pub elsewhere: bool,
    pub in_critical_section: bool,
}

/// A closure passed to a cell of `std` or `once_cell`, or to a `LazyLock`.
#[derive(Debug)]
pub struct Initialiser {
    pub cell: String,
    pub place: Place,
    pub state: State,
    /// The first use of a token in the closure.
    pub token: Option<Place>,
    pub held_outside: bool,
}

/// A closure that other threads run while this thread waits for them, as with Rayon.
#[derive(Debug)]
pub struct Parallel {
    pub place: Place,
    pub state: State,
    pub what: String,
}

/// An iteration over a `PyDict`, `PySet` or `PyList`.
#[derive(Debug)]
pub struct Iteration {
    pub class: String,
    pub origin: Origin,
    pub place: Place,
    /// Includes the section that `locked_for_each` enters.
    pub in_critical_section: bool,
    /// The events during the iteration.
    pub events: std::ops::Range<usize>,
}

#[derive(Debug, Default)]
pub struct Body {
    pub iterations: Vec<Iteration>,
    pub events: Vec<Event>,
    pub guards: Vec<Guard>,
    pub initialisers: Vec<Initialiser>,
    pub parallels: Vec<Parallel>,
    /// The type of each object on which `borrow_mut` is called: a `Py`, a `Bound`, or unknown.
    pub mutable_borrows: Vec<Ty>,
}

//! What a body is read into: its events, in the order in which they stand there, and what they refer to.

use crate::{
    context::{FunctionId, names::Ty},
    finding::Place,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As its caller is.
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

/// A lock that does not know of the interpreter, being taken.
#[derive(Debug, Clone)]
pub struct Lock {
    /// `std::Mutex`, `parking_lot::RwLock`, ..; empty if only its methods tell that it is a lock.
    pub ty: String,
    pub mode: Mode,
    /// `Type.field` or `STATIC`: equal for what can be the same lock.
    pub identity: Option<String>,
    /// The expression in front of the field: `self`, `other`.
    pub instance: Option<String>,
    /// Taken with `lock_py_attached` or our `lock_attached`, or tried: nobody waits attached here.
    pub never_waits_attached: bool,
    /// What it protects.
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
    /// Takes a lock: an index into the body's guards.
    Acquire(usize),
    /// Runs, or may run, Python code; or gives others the GIL.
    Python(String),
    Attach,
    Detach,
    Wait(WaitKind, String),
    Call(FunctionId),
    /// Calls, or mentions, a function of the C interface.
    Ffi {
        function: String,
        /// Where its first argument comes from.
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

/// Where a collection that is iterated over comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made here, and nobody has seen it.
    Fresh,
    /// Given by the caller.
    Parameter,
    /// A field, a static, an attribute of another object: others can get at it as well.
    Shared,
    /// Given by `PyObject_GetAttr`: an attribute that the object keeps, or one that is made for whoever asks.
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
    /// The initialiser it is in.
    pub initialiser: Option<usize>,
    /// The parallel iteration it is in.
    pub parallel: Option<usize>,
    /// In a closure that another thread runs.
    pub elsewhere: bool,
    pub in_critical_section: bool,
}

/// A closure given to a cell of `std` or `once_cell`, or to a `LazyLock`.
#[derive(Debug)]
pub struct Initialiser {
    pub cell: String,
    pub place: Place,
    pub state: State,
    /// The first use of a token in it.
    pub token: Option<Place>,
    pub held_outside: bool,
}

/// A closure that other threads run while this one waits for it: Rayon's.
#[derive(Debug)]
pub struct Parallel {
    pub place: Place,
    pub state: State,
    pub what: String,
}

/// A `PyDict`, `PySet` or `PyList` that is iterated over.
#[derive(Debug)]
pub struct Iteration {
    pub class: String,
    pub origin: Origin,
    pub place: Place,
    /// Includes the section that `locked_for_each` enters.
    pub in_critical_section: bool,
    /// What happens in the course of it.
    pub events: std::ops::Range<usize>,
}

#[derive(Debug, Default)]
pub struct Body {
    pub iterations: Vec<Iteration>,
    pub events: Vec<Event>,
    pub guards: Vec<Guard>,
    pub initialisers: Vec<Initialiser>,
    pub parallels: Vec<Parallel>,
    /// The type of each object, a `Py` or `Bound` or unknown, on which `borrow_mut` is called.
    pub mutable_borrows: Vec<Ty>,
}

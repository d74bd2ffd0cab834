//! [`PySnapshot`]: a value that is read often and replaced rarely.

pub(crate) mod raw;

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr::{self, NonNull},
};

use pyo3::{prelude::*, pyclass::PyVisit};

use self::raw::{Reading, Source};
use crate::{
    error::DeadlockError,
    mutex::{PyMutex, PyMutexGuard},
};

/// A shared value that threads read often and replace rarely, such as a configuration.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PySnapshot;
///
/// struct Settings {
///     depth: usize,
///     strict: bool,
/// }
///
/// static SETTINGS: PySnapshot<Settings> = PySnapshot::new(Settings { depth: 8, strict: false });
///
/// #[pyfunction]
/// fn is_too_deep(py: Python<'_>, depth: usize) -> bool {
///     let settings = SETTINGS.load(py);
///     settings.strict && depth > settings.depth
/// }
///
/// #[pyfunction]
/// fn set_depth(py: Python<'_>, depth: usize) {
///     SETTINGS.update(py, |old| Settings { depth, strict: old.strict });
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     set_depth(py, 3);
/// #     assert_eq!(SETTINGS.load(py).depth, 3);
/// #     assert!(!is_too_deep(py, 4));
/// # });
/// ```
///
/// [`load`](Self::load) returns a guard for the value that is current at that moment. It never
/// blocks, and readers do not slow each other down. [`store`](Self::store) and
/// [`update`](Self::update) replace the value at any time. Readers keep the value that they have
/// loaded. A thread that loads again sees the new value.
///
/// Use a [`PyRwLock`](crate::PyRwLock) for data that are changed in place, or whose readers must
/// not see outdated values.
///
/// # Old values
///
/// A replaced value is dropped when its last reader drops its guard, or immediately if it has no
/// readers. The thread that drops it is attached, and no lock of the snapshot is held. So the
/// destructor may run Python code, and may load or store the same snapshot.
///
/// A guard stays on its thread and ends with the token. To keep a value for longer, store an
/// [`Arc`](std::sync::Arc) and clone it: `snapshot.load(py).clone()`.
///
/// # Forgotten guards
///
/// If a guard is leaked, for example by [`std::mem::forget`], its value is never dropped once it
/// was replaced. Later stores are not affected.
///
/// # Forked children
///
/// A value that another thread was reading at the fork is never dropped in the child. An update
/// that another thread was making has no effect there.
///
/// # Performance
///
/// A load costs a few loads and stores, without an atomic read-modify-write operation. The stores
/// go to memory of the calling thread. On free-threaded Python without `membarrier`, loading and
/// dropping the guard execute a full memory barrier each; see [`platforms`](crate::platforms). A
/// thread that holds several guards at a time, of snapshots, of module states or for reading, pays
/// some instructions more for each but the first.
///
/// A store allocates memory, executes a memory barrier on all running threads of the process, and
/// looks at the slots in which threads record what they read. It takes microseconds.
///
/// The first value is stored in the snapshot itself, so that [`new`](Self::new) can be used in a
/// `static`. Its memory is not reused when it was replaced.
///
/// # Differences from `arc-swap`
///
/// | in `arc-swap` | here |
/// |---|---|
/// | `ArcSwap<T>` holds an `Arc<T>` | holds a `T`; use `PySnapshot<Arc<T>>` for an `Arc` |
/// | `load_full` | `load(py).clone()` of an `Arc` |
/// | `Guard` may be kept and sent | the guard stays on its thread and ends with the token |
/// | `rcu` may call its closure several times | [`update`](Self::update) calls it once |
/// | `swap`, `compare_and_swap` | [`update`](Self::update); readers may have the old value |
/// | `ArcSwapOption` | `PySnapshot<Option<T>>` |
/// | `map`, `Access`, `Cache` | not available: borrow from the guard |
pub struct PySnapshot<T> {
    /// | pointer | meaning | stored by |
    /// |---|---|---|
    /// | null | the first value is current, and was never read | |
    /// | a number | the first value is current | the first reader |
    /// | a [`Node`] | the value of the node is current | a store or an update |
    source: Source,
    /// Dropped by the thread that frees the first value.
    first: UnsafeCell<ManuallyDrop<T>>,
    /// Serializes updates.
    updating: PyMutex<()>,
}

// SAFETY:
// - Sharing a snapshot shares its value, and `T: Sync`.
// - Any thread may drop a value of another thread, and `T: Send`.
unsafe impl<T: Send + Sync> Sync for PySnapshot<T> {}

// A value is replaced at once, so a panic leaves no value half-written.
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for PySnapshot<T> {}

/// A value that was stored.
#[repr(C)]
struct Node<T> {
    value: T,
    /// Makes the address even, and different for each node, also if `T` has no size.
    _address: u16,
}

impl<T> Node<T> {
    fn leak(value: T) -> *mut () {
        let node = Box::new(Node { value, _address: 0 });
        Box::into_raw(node).cast()
    }
}

impl<T> PySnapshot<T> {
    /// Creates a snapshot of `value`.
    ///
    /// ```
    /// use pyo3_sync::PySnapshot;
    ///
    /// static ROUTES: PySnapshot<Vec<String>> = PySnapshot::new(Vec::new());
    /// ```
    #[track_caller]
    pub const fn new(value: T) -> Self {
        PySnapshot {
            source: Source::new(),
            first: UnsafeCell::new(ManuallyDrop::new(value)),
            updating: PyMutex::new(()),
        }
    }

    /// Returns a guard for the current value.
    ///
    /// Never blocks. The guard keeps the value, even if it is replaced. Other threads may store
    /// new values while it lives, and so may this thread.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PySnapshot;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let snapshot = PySnapshot::new(vec![1, 2, 3]);
    /// let values = snapshot.load(py);
    /// snapshot.store(py, vec![4]);
    /// assert_eq!(*values, [1, 2, 3]);
    /// assert_eq!(*snapshot.load(py), [4]);
    ///
    /// // Detached code borrows the value, not the guard.
    /// let values = &*values;
    /// let sum: i32 = py.detach(|| values.iter().sum());
    /// assert_eq!(sum, 6);
    /// # });
    /// ```
    ///
    /// The first load of a process may detach for milliseconds, on free-threaded Python: it
    /// registers the process for `membarrier`.
    #[inline]
    pub fn load<'a>(&'a self, py: Python<'a>) -> PySnapshotGuard<'a, T> {
        loop {
            let node = self.source.load();
            if node.is_null() {
                self.number_first();
                continue;
            }
            // SAFETY: the node was just loaded, and is not null.
            if let Some(reading) = unsafe { self.source.read(py, node) } {
                let value = self.value(node);
                return PySnapshotGuard {
                    reading,
                    value,
                    _py: PhantomData,
                };
            }
        }
    }

    /// Replaces the value.
    ///
    /// Never blocks. Drops the old value if it has no readers. Otherwise its last reader drops it.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PySnapshot;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let snapshot = PySnapshot::new("a");
    /// snapshot.store(py, "b");
    /// assert_eq!(*snapshot.load(py), "b");
    /// # });
    /// ```
    ///
    /// A store during an [`update`](Self::update) replaces the result of that update.
    ///
    /// # Panics
    ///
    /// Panics if dropping the old value panics. The new value is then stored.
    pub fn store(&self, py: Python<'_>, value: T) {
        let old = self.source.swap(Node::leak(value));
        // SAFETY: the old value was just replaced.
        unsafe { self.retire(py, old) }
    }

    /// Replaces the value with one that `f` computes from it.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::PySnapshot;
    ///
    /// static ROUTES: PySnapshot<Vec<String>> = PySnapshot::new(Vec::new());
    ///
    /// #[pyfunction]
    /// fn add_route(py: Python<'_>, route: String) {
    ///     ROUTES.update(py, |old| {
    ///         let mut routes = old.clone();
    ///         routes.push(route);
    ///         routes
    ///     });
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// #     add_route(py, "/".into());
    /// #     assert_eq!(*ROUTES.load(py), ["/"]);
    /// # });
    /// ```
    ///
    /// `f` is called once. Updates run one after the other: while `f` runs, other threads that
    /// update block, detached, and other threads may load and store. If a thread stores meanwhile,
    /// the update counts as earlier than that store, and its result is dropped. So no update is
    /// lost to another update.
    ///
    /// # Panics
    ///
    /// - If `f` panics. The value is unchanged.
    /// - If the wait for another update would never end: see [Deadlocks](#deadlocks). `f` is not
    ///   called.
    /// - If dropping a value panics.
    ///
    /// # Deadlocks
    ///
    /// As for [`PyMutex::lock`]; for example, `f` updates the same snapshot. [`try_update`] returns
    /// an error instead. An update that was lost to a fork is no deadlock.
    ///
    /// [`try_update`]: Self::try_update
    #[track_caller]
    pub fn update(&self, py: Python<'_>, f: impl FnOnce(&T) -> T) {
        let updated = self.try_update(py, |value| Ok(f(value)));
        updated.unwrap_or_else(|error: DeadlockError| error.panic());
    }

    /// Replaces the value with one that the fallible `f` computes from it.
    ///
    /// Same as [`update`](Self::update), except that errors are returned.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::PySnapshot;
    ///
    /// static LIMIT: PySnapshot<u64> = PySnapshot::new(10);
    ///
    /// #[pyfunction]
    /// fn change_limit(py: Python<'_>, change: Bound<'_, PyAny>) -> PyResult<()> {
    ///     LIMIT.try_update(py, |old| change.call1((*old,))?.extract())
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// #     let call = |code| change_limit(py, py.eval(code, None, None).unwrap());
    /// #     call(c"lambda old: old * 2").unwrap();
    /// #     assert!(call(c"lambda old: 1 / 0").is_err());
    /// #     assert_eq!(*LIMIT.load(py), 20);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of `f`, or a [`DeadlockError`], without calling `f`, where `update` would
    /// panic because of one. The value is unchanged.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics, or if dropping a value panics.
    #[track_caller]
    pub fn try_update<E: From<DeadlockError>>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&T) -> Result<T, E>,
    ) -> Result<(), E> {
        // Before the lock, and so dropped after it is released: this may drop a value.
        let mut old = None;
        let updating = self.lock_updates(py)?;
        let old = old.insert(self.load(py));
        let new = Node::leak(f(old)?);
        let node = old.reading.node();
        // The guard keeps the node, so its address is no other node's.
        let is_replaced = self.source.replace(node, new);
        drop(updating);
        if is_replaced {
            // SAFETY: the node was replaced by this thread.
            unsafe { self.retire(py, node) };
        } else {
            // SAFETY: the node was never current, so no thread reads it.
            unsafe { free(new, self.value(new)) };
        }
        Ok(())
    }

    #[track_caller]
    fn lock_updates<'a>(&'a self, py: Python<'a>) -> Result<PyMutexGuard<'a, ()>, DeadlockError> {
        // An update that was lost to a fork has changed nothing.
        // SAFETY: the data have no size, so no reference to them is used.
        let _ = unsafe { self.updating.reset_abandoned(py, ()) };
        self.updating.lock_checked(py)
    }

    /// Consumes the snapshot, returning its value.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        let node = this.source.load();
        // SAFETY: the current value was not dropped, and is not used again.
        let value = unsafe { this.value(node).read() };
        // SAFETY: the value was moved out. No guard exists, because guards borrow the snapshot.
        unsafe { free_memory::<T>(node) };
        value
    }

    /// Returns a mutable reference to the value. The borrow proves that there are no guards.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY:
        // - The current value was not dropped.
        // - The exclusive borrow outlives the reference, so no guard exists.
        unsafe { self.value(self.source.load()).as_mut() }
    }

    /// Returns the value to the garbage collector, in `__traverse__`.
    ///
    /// The reference ends with the visit. Old values that still have readers are not visited. The
    /// collector treats their objects as reachable.
    ///
    /// [Exactly one Python object](PyMutex#one-owner) may own the snapshot and visit its value. Do
    /// not visit objects behind an [`Arc`](std::sync::Arc) that was cloned.
    ///
    /// ```
    /// use pyo3::{PyTraverseError, PyVisit, prelude::*};
    /// use pyo3_sync::PySnapshot;
    ///
    /// #[pyclass(frozen)]
    /// struct Signal {
    ///     receivers: PySnapshot<Vec<Py<PyAny>>>,
    /// }
    ///
    /// #[pymethods]
    /// impl Signal {
    ///     fn send(&self, py: Python<'_>, event: &str) -> PyResult<()> {
    ///         // A receiver may connect another one meanwhile.
    ///         for receiver in self.receivers.load(py).iter() {
    ///             receiver.call1(py, (event,))?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn connect(&self, py: Python<'_>, receiver: Py<PyAny>) {
    ///         self.receivers.update(py, |old| {
    ///             let old = old.iter().map(|receiver| receiver.clone_ref(py));
    ///             old.chain([receiver]).collect()
    ///         });
    ///     }
    ///
    ///     fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
    ///         for receiver in self.receivers.traverse(&visit) {
    ///             visit.call(receiver)?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn __clear__(&self, py: Python<'_>) {
    ///         self.receivers.store(py, Vec::new());
    ///     }
    /// }
    /// ```
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> &'v T {
        // SAFETY:
        // - The current value was not dropped, and `load` has acquired it.
        // - The reference cannot outlive the `PyVisit`, which exists only during a traversal. The
        //   value is not replaced meanwhile. With a GIL, this thread holds it and runs only the
        //   traversal. On free-threaded builds the world is stopped, and only running attached
        //   threads store.
        unsafe { self.value(self.source.load()).as_ref() }
    }

    /// Assigns a number to the first value, unless it has one or was replaced.
    #[cold]
    fn number_first(&self) {
        self.source.replace(ptr::null_mut(), raw::new_number());
    }

    /// Returns a pointer to the value of a node.
    #[inline(always)]
    fn value(&self, node: *mut ()) -> NonNull<T> {
        let value = if is_first(node) {
            self.first.get().cast()
        } else {
            // The first field of a `Node<T>`.
            node.cast()
        };
        // SAFETY: not null: a pointer to a field, or checked.
        unsafe { NonNull::new_unchecked(value) }
    }

    /// Drops an old value, or leaves that to its last reader.
    ///
    /// # Safety
    ///
    /// The caller has replaced `old`. It calls this once.
    unsafe fn retire(&self, py: Python<'_>, old: *mut ()) {
        // SAFETY: `Source::retire` is called only if the pointer is not null.
        if old.is_null() || unsafe { self.source.retire(py, old) } {
            // SAFETY: the node was replaced, and has no readers.
            unsafe { free(old, self.value(old)) };
        }
    }
}

/// Returns whether `node` stands for the first value.
#[inline(always)]
fn is_first(node: *mut ()) -> bool {
    node.is_null() || raw::is_number(node)
}

/// Drops the value of a node, and frees the node unless it is the first one.
///
/// # Safety
///
/// - `value` is the value of `node`, which was not freed.
/// - No reference to the value exists or is created.
unsafe fn free<T>(node: *mut (), value: NonNull<T>) {
    if is_first(node) {
        // SAFETY: guaranteed by the caller.
        unsafe { value.drop_in_place() };
    } else {
        // SAFETY: guaranteed by the caller. The node comes from `Node::leak`.
        drop(unsafe { Box::from_raw(node.cast::<Node<T>>()) });
    }
}

/// Frees the memory of the current node of a snapshot that ends.
///
/// The slot of a forgotten guard may have its address, which must not become that of another node.
/// The memory is leaked then.
///
/// # Safety
///
/// - The node is current, and its value was dropped or moved out.
/// - No guard exists that was not forgotten.
unsafe fn free_memory<T>(node: *mut ()) {
    // SAFETY: not null, which is the first value's.
    if is_first(node) || unsafe { raw::is_read(node) } {
        return;
    }
    // SAFETY: guaranteed by the caller. The node comes from `Node::leak`.
    drop(unsafe { Box::from_raw(node.cast::<ManuallyDrop<Node<T>>>()) });
}

impl<T> Drop for PySnapshot<T> {
    fn drop(&mut self) {
        let node = self.source.load();
        // SAFETY:
        // - The current value was not dropped. Every other value was replaced: it was dropped, or
        //   has a forgotten guard.
        // - Guards borrow the snapshot, so none exists.
        unsafe { self.value(node).drop_in_place() };
        // SAFETY: the value was dropped, and no guard exists.
        unsafe { free_memory::<T>(node) };
    }
}

impl<T: Default> Default for PySnapshot<T> {
    #[track_caller]
    fn default() -> Self {
        PySnapshot::new(T::default())
    }
}

impl<T> From<T> for PySnapshot<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        PySnapshot::new(value)
    }
}

/// Shows no value. Loading it would need a token.
impl<T> fmt::Debug for PySnapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PySnapshot").finish_non_exhaustive()
    }
}

/// A value loaded from a [`PySnapshot`], which is not dropped before the guard.
///
/// Returned by [`PySnapshot::load`].
#[must_use = "if unused the value is not kept"]
pub struct PySnapshotGuard<'a, T> {
    reading: Reading<'a>,
    value: NonNull<T>,
    /// Keeps the guard on its thread, attached: dropping it may drop the value.
    _py: PhantomData<Python<'a>>,
}

// SAFETY: a reference to a guard leads to a reference to the value, hence `T: Sync`. The rest is
// used only by dropping the guard.
unsafe impl<T: Sync> Sync for PySnapshotGuard<'_, T> {}

// The guard leads to a `&T`. The slots are consistent whenever code of their users can panic.
impl<T: RefUnwindSafe> UnwindSafe for PySnapshotGuard<'_, T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for PySnapshotGuard<'_, T> {}

impl<T> Deref for PySnapshotGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the node was current after this thread had announced it, and is in a slot, so the
        // value is not dropped before `self`. There are only shared references to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for PySnapshotGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let value = self.value;
        // SAFETY:
        // - Called once.
        // - References to the value borrow from `self`, which is being dropped.
        // - `free` is called only if this thread must free the node.
        unsafe { self.reading.leave(|node| free(node, value)) }
    }
}

impl<T: fmt::Debug> fmt::Debug for PySnapshotGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for PySnapshotGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

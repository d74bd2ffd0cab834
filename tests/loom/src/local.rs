//! Thread-locals of the threads of a model.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
    panic::resume_unwind,
};

use loom::thread::{self, ThreadId};

struct Value {
    value: Box<dyn Any>,
    needs_drop: bool,
}

thread_local! {
    static VALUES: RefCell<HashMap<(ThreadId, usize), Value>> = RefCell::default();
    /// The threads that have destroyed theirs.
    static ENDED: RefCell<Vec<ThreadId>> = RefCell::default();
    /// The threads that [died](die).
    static DEAD: RefCell<Vec<ThreadId>> = RefCell::default();
}

pub(crate) fn start() {
    drop(VALUES.take());
    ENDED.take();
    DEAD.take();
}

/// What a thread is unwound with that hangs for ever: loom wants all threads to end.
pub(crate) struct Hung;

/// The calling thread hangs for ever, and the model is over: whatever the thread does to atomics from now on does not happen, and at the
/// first such place that is not in a destructor it is unwound.
pub(crate) fn die() {
    let me = thread::current().id();
    DEAD.with_borrow_mut(|dead| dead.push(me));
}

/// Forgets the thread-locals of this thread, which is dead: it hangs for ever, and never destroys them.
pub(crate) fn forget_thread() {
    let me = thread::current().id();
    VALUES.with_borrow_mut(|values| {
        let (forgotten, others): (Vec<_>, Vec<_>) =
            values.drain().partition(|((thread, _), _)| *thread == me);
        mem::forget(forgotten);
        values.extend(others);
    });
}

pub(crate) fn is_dead() -> bool {
    DEAD.with_borrow(|dead| !dead.is_empty() && dead.contains(&thread::current().id()))
}

/// Unwinds the calling thread if it is dead. If it is unwinding already, this gives true.
pub(crate) fn end_if_dead() -> bool {
    let is_dead = is_dead();
    if is_dead && !std::thread::panicking() {
        resume_unwind(Box::new(Hung));
    }
    is_dead
}

/// Destroys the thread-locals of this thread, those that need it.
pub(crate) fn end_thread() {
    let me = thread::current().id();
    ENDED.with_borrow_mut(|ended| ended.push(me));
    let taken: Vec<Value> = VALUES.with_borrow_mut(|values| {
        let mut keys: Vec<_> = values
            .iter()
            .filter(|((thread, _), value)| *thread == me && value.needs_drop)
            .map(|(key, _)| *key)
            .collect();
        // Always in the same order, or loom could not repeat a run.
        keys.sort_by_key(|(_, key)| *key);
        keys.iter().filter_map(|key| values.remove(key)).collect()
    });
    drop(taken);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError;

pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

impl<T: 'static> LocalKey<T> {
    pub const fn new(init: fn() -> T) -> Self {
        LocalKey { init }
    }

    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let me = thread::current().id();
        let needs_drop = mem::needs_drop::<T>();
        if needs_drop && ENDED.with_borrow(|ended| ended.contains(&me)) {
            return Err(AccessError);
        }
        let key = (me, std::ptr::from_ref(self).addr());
        let value: *const T = VALUES.with_borrow_mut(|values| {
            let value = values.entry(key).or_insert_with(|| Value {
                value: Box::new((self.init)()),
                needs_drop,
            });
            &raw const *value.value.downcast_ref::<T>().expect("its own type")
        });
        // SAFETY: it is in a box, and dropped at the end of this thread, or with the run.
        Ok(f(unsafe { &*value }))
    }

    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("it exists")
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }
}

#[macro_export]
macro_rules! thread_local {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = const $init:block;)+) => {$(
        $(#[$meta])*
        $vis static $name: $crate::local::LocalKey<$type> = $crate::local::LocalKey::new(|| $init);
    )+};
}

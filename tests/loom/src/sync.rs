//! Atomics, mutexes and sleep, which can be made in constants, unlike loom's.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::HashSet,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    ops::{Deref, DerefMut},
    ptr,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use loom::{
    sync::{Condvar, Mutex as LoomMutex, MutexGuard as LoomGuard},
    thread::ThreadId,
};

use crate::{barrier, clock, execution, interpreter, local};

/// An atomic of 64 bits, from the pool of the run: for a static, another one in each.
///
/// What is in the pool's atomic is how far the value is from the first one.
struct Atomic {
    first: u64,
    run: Cell<u64>,
    index: Cell<usize>,
}

// SAFETY: the threads of a model are on one thread of the system.
unsafe impl Sync for Atomic {}

impl Atomic {
    const fn new(first: u64) -> Self {
        Atomic {
            first,
            run: Cell::new(0),
            index: Cell::new(0),
        }
    }

    fn index(&self) -> usize {
        barrier::poll();
        if self.run.get() != execution::number() {
            self.run.set(execution::number());
            self.index.set(execution::new_atomic());
        }
        self.index.get()
    }

    /// loom takes a sequentially consistent access for one that acquires and releases. What it knows of that order are fences. So there is
    /// one between a store of this kind and a load of this kind that comes after it in the same thread; and none if only one of them
    /// is of this kind, so that it is noticed if either should be and is not.
    fn load(&self, ordering: Ordering) -> u64 {
        if local::end_if_dead() {
            return 0;
        }
        if ordering == Ordering::SeqCst {
            fence_if_stored();
        }
        let distance = execution::with_atomic(self.index(), |atomic| atomic.load(ordering));
        distance.wrapping_add(self.first)
    }

    fn store(&self, value: u64, ordering: Ordering) {
        if local::end_if_dead() {
            return;
        }
        let distance = value.wrapping_sub(self.first);
        execution::with_atomic(self.index(), |atomic| atomic.store(distance, ordering));
        note_store(ordering);
    }

    fn swap(&self, value: u64, ordering: Ordering) -> u64 {
        if local::end_if_dead() {
            return 0;
        }
        let distance = value.wrapping_sub(self.first);
        let old = execution::with_atomic(self.index(), |atomic| atomic.swap(distance, ordering));
        note_store(ordering);
        old.wrapping_add(self.first)
    }

    fn add(&self, value: u64, ordering: Ordering) -> u64 {
        if local::end_if_dead() {
            return 0;
        }
        let old = execution::with_atomic(self.index(), |atomic| atomic.fetch_add(value, ordering));
        note_store(ordering);
        old.wrapping_add(self.first)
    }

    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if local::end_if_dead() {
            return Ok(current);
        }
        let (from, to) = (
            current.wrapping_sub(self.first),
            new.wrapping_sub(self.first),
        );
        let result = execution::with_atomic(self.index(), |atomic| {
            atomic.compare_exchange(from, to, success, failure)
        });
        if result.is_ok() {
            note_store(success);
        }
        result
            .map(|old| old.wrapping_add(self.first))
            .map_err(|now| now.wrapping_add(self.first))
    }
}

fn note_store(ordering: Ordering) {
    if ordering == Ordering::SeqCst {
        let me = loom::thread::current().id();
        STORED.with_borrow_mut(|stored| stored.insert(me));
    }
}

fn fence_if_stored() {
    let me = loom::thread::current().id();
    if STORED.with_borrow_mut(|stored| stored.remove(&me)) {
        fence(Ordering::SeqCst);
    }
}

pub fn fence(ordering: Ordering) {
    loom::sync::atomic::fence(ordering);
}

/// For the compiler only, which a model has none of.
pub fn compiler_fence(_: Ordering) {}

macro_rules! atomics {
    ($($name:ident($($generic:ident)?): $value:ty, $to:expr, $from:expr;)+) => {$(
        pub struct $name$(<$generic>)?(Atomic, PhantomData<$value>);

        // SAFETY: as those of `std`, which hand out nothing but values.
        unsafe impl$(<$generic>)? Sync for $name$(<$generic>)? {}
        // SAFETY: as above.
        unsafe impl$(<$generic>)? Send for $name$(<$generic>)? {}

        #[allow(clippy::redundant_closure_call)]
        impl$(<$generic>)? $name$(<$generic>)? {
            pub fn load(&self, ordering: Ordering) -> $value {
                $from(self.0.load(ordering))
            }

            pub fn store(&self, value: $value, ordering: Ordering) {
                self.0.store($to(value), ordering);
            }

            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                $from(self.0.swap($to(value), ordering))
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0
                    .compare_exchange($to(current), $to(new), success, failure)
                    .map(|old| $from(old))
                    .map_err(|now| $from(now))
            }

            /// Never fails without reason: where that is allowed all callers try again.
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut seen = self.load(failure);
                while let Some(next) = change(seen) {
                    match self.compare_exchange(seen, next, success, failure) {
                        Ok(old) => return Ok(old),
                        Err(now) => seen = now,
                    }
                }
                Err(seen)
            }
        }
    )+};
}

atomics! {
    AtomicBool(): bool, u64::from, |bits| bits != 0;
    AtomicU32(): u32, u64::from, |bits| bits as u32;
    AtomicU64(): u64, |value| value, |bits| bits;
    AtomicUsize(): usize, |value| value as u64, |bits| bits as usize;
    AtomicPtr(T): *mut T, |value: *mut T| value.expose_provenance() as u64, |bits| ptr::with_exposed_provenance_mut(bits as usize);
}

impl AtomicBool {
    pub const fn new(value: bool) -> Self {
        AtomicBool(Atomic::new(value as u64), PhantomData)
    }
}

impl<T> AtomicPtr<T> {
    /// Null only, which is all that the crate begins with: an address is not known in a constant.
    pub const fn new(_null: *mut T) -> Self {
        AtomicPtr(Atomic::new(0), PhantomData)
    }
}

macro_rules! numbers {
    ($($name:ident: $value:ty;)+) => {$(
        impl $name {
            pub const fn new(value: $value) -> Self {
                $name(Atomic::new(value as u64), PhantomData)
            }

            pub fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                self.0.add(value as u64, ordering) as $value
            }

            pub fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
                self.0.add((value as u64).wrapping_neg(), ordering) as $value
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new(0)
            }
        }
    )+};
}

numbers! {
    AtomicU32: u32;
    AtomicU64: u64;
    AtomicUsize: usize;
}

/// A mutex. In each run it has the value again that it was made with.
pub struct Mutex<T> {
    run: Cell<u64>,
    lock: UnsafeCell<MaybeUninit<LoomMutex<()>>>,
    /// The bits of the value that it was made with: never dropped, only copied. Which does for what owns nothing yet.
    first: ManuallyDrop<T>,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the threads of a model are on one thread of the system, and loom's mutex keeps them from the value.
unsafe impl<T> Sync for Mutex<T> {}

pub struct MutexGuard<'a, T> {
    value: *mut T,
    _guard: Option<LoomGuard<'a, ()>>,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Mutex {
            run: Cell::new(0),
            lock: UnsafeCell::new(MaybeUninit::uninit()),
            first: ManuallyDrop::new(value),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    pub fn lock(&self) -> Result<MutexGuard<'_, T>, PoisonError<MutexGuard<'_, T>>> {
        if local::end_if_dead() {
            // It unwinds, and what it does is not to be seen: a value that nobody else has.
            // SAFETY: a copy of what owns nothing.
            let value = Box::new(unsafe { ptr::read(&*self.first) });
            return Ok(MutexGuard {
                value: Box::leak(value),
                _guard: None,
            });
        }
        if self.run.get() != execution::number() {
            // SAFETY: nobody has locked it in this run. What it was left with in the one before is dropped, if there was one.
            unsafe {
                if self.run.get() != 0 {
                    (*self.value.get()).assume_init_drop();
                }
                *self.lock.get() = MaybeUninit::new(LoomMutex::new(()));
                *self.value.get() = MaybeUninit::new(ptr::read(&*self.first));
            }
            self.run.set(execution::number());
        }
        // SAFETY: initialised just now, or earlier in this run.
        let lock = unsafe { (*self.lock.get()).assume_init_ref() };
        let guard = lock.lock().expect("nobody panics under it");
        Ok(MutexGuard {
            value: self.value.get().cast(),
            _guard: Some(guard),
        })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was initialised by `lock`, and is locked, or nobody else's.
        unsafe { &*self.value }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.value }
    }
}

/// A thread, with the token that wakes it. loom's own loses the token when the thread is waiting for a mutex.
#[derive(Clone)]
pub struct Thread(Arc<Parker>);

struct Parker {
    token: LoomMutex<bool>,
    given: Condvar,
    /// Whether the thread sleeps, and has no token.
    sleeps: std::sync::atomic::AtomicBool,
}

thread_local! {
    static THREADS: RefCell<Vec<(ThreadId, Thread)>> = RefCell::default();
    /// The threads that have stored something, sequentially consistent, since their last fence.
    static STORED: RefCell<HashSet<ThreadId>> = RefCell::default();
}

pub(crate) fn start() {
    THREADS.take();
    STORED.take();
}

/// How many threads sleep without a limit at this moment. loom does not know of it: only for a thread that yields until it is so many.
pub fn asleep() -> usize {
    THREADS.with_borrow(|threads| {
        let asleep = threads
            .iter()
            .filter(|(_, Thread(parker))| parker.sleeps.load(Ordering::Relaxed));
        asleep.count()
    })
}

pub fn current() -> Thread {
    let new = || {
        Thread(Arc::new(Parker {
            token: LoomMutex::new(false),
            given: Condvar::new(),
            sleeps: false.into(),
        }))
    };
    let me = loom::thread::current().id();
    THREADS.with_borrow_mut(|threads| {
        let known = threads.iter().find(|(thread, _)| *thread == me);
        if let Some((_, thread)) = known {
            return thread.clone();
        }
        threads.push((me, new()));
        threads.last().expect("it was added").1.clone()
    })
}

/// Wakes all threads, which see then that the model is over.
pub(crate) fn wake_all() {
    let threads = THREADS.with_borrow(Vec::clone);
    for (_, thread) in threads {
        thread.unpark();
    }
}

impl Thread {
    pub fn name(&self) -> Option<&str> {
        None
    }

    pub fn unpark(&self) {
        let mut token = self.0.token.lock().expect("nobody panics under it");
        *token = true;
        self.0.sleeps.store(false, Ordering::Relaxed);
        drop(token);
        self.0.given.notify_one();
    }
}

pub fn park() {
    assert!(
        !interpreter::is_attached(),
        "I1: a thread sleeps while it is attached"
    );
    let Thread(parker) = current();
    let mut token = parker.token.lock().expect("nobody panics under it");
    while !mem::take(&mut *token) {
        if interpreter::is_over() {
            drop(token);
            return local::die();
        }
        barrier::fall_asleep();
        parker.sleeps.store(true, Ordering::Relaxed);
        token = parker.given.wait(token).expect("nobody panics under it");
        barrier::wake_up();
        if interpreter::is_over() {
            *token = false;
        }
    }
}

/// What is longer than this is for things that the models have not (imports), and would only hide that nobody wakes the thread.
const FOR_EVER: Duration = Duration::from_millis(50);

pub fn park_timeout(limit: Duration) {
    if limit > FOR_EVER {
        return park();
    }
    assert!(
        !interpreter::is_attached(),
        "I1: a thread sleeps while it is attached"
    );
    loom::thread::yield_now();
    clock::advance(limit);
    barrier::make();
}

//! Atomics, mutexes and sleep, which can be made in constants, unlike loom's.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::HashSet,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    ops::{Deref, DerefMut},
    ptr,
    sync::{Arc, LockResult, PoisonError, atomic::Ordering},
    time::Duration,
};

use loom::{
    sync::{Condvar as LoomCondvar, Mutex as LoomMutex, MutexGuard as LoomGuard},
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
    mutex: &'a Mutex<T>,
    /// `None` for a dead thread.
    guard: Option<LoomGuard<'a, ()>>,
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
                mutex: self,
                guard: None,
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
            mutex: self,
            guard: Some(guard),
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

/// A place to wait for a notification, for one thread at a time.
struct Place {
    notified: LoomCondvar,
    /// Set while a thread waits. loom does not know of it.
    is_taken: Cell<bool>,
}

// SAFETY: the threads of a model are on one thread of the system.
unsafe impl Sync for Place {}
// SAFETY: as above.
unsafe impl Send for Place {}

impl Place {
    fn new() -> Arc<Self> {
        let place = Arc::new(Place {
            notified: LoomCondvar::new(),
            is_taken: Cell::new(false),
        });
        PLACES.with_borrow_mut(|places| places.push(Arc::clone(&place)));
        place
    }

    /// Waits, with the mutex of `guard` unlocked. Returns `None`, and the thread is dead, if the
    /// model is over.
    fn wait<'a, T>(&self, guard: LoomGuard<'a, T>) -> Option<LoomGuard<'a, T>> {
        assert!(
            !interpreter::is_attached(),
            "I1: a thread sleeps while it is attached"
        );
        barrier::fall_asleep();
        self.is_taken.set(true);
        // loom may switch to another thread at the beginning of the wait. `wake_all` repeats its
        // notification for that.
        let mut guard = Some(guard);
        if !interpreter::is_over() {
            guard = guard.map(|guard| self.notified.wait(guard).expect("nobody panics under it"));
        }
        self.is_taken.set(false);
        barrier::wake_up();
        if interpreter::is_over() {
            guard = None;
            local::die();
        }
        guard
    }

    fn notify(&self) {
        self.is_taken.set(false);
        self.notified.notify_one();
    }
}

/// A thread, with the token of `std::thread::park`. loom's own loses the token when the thread is
/// waiting for a mutex.
#[derive(Clone)]
pub struct Thread(Arc<Token>);

struct Token {
    is_there: LoomMutex<bool>,
    place: Arc<Place>,
}

thread_local! {
    static THREADS: RefCell<Vec<(ThreadId, Thread)>> = RefCell::default();
    static PLACES: RefCell<Vec<Arc<Place>>> = RefCell::default();
    /// The threads that have stored something, sequentially consistent, since their last fence.
    static STORED: RefCell<HashSet<ThreadId>> = RefCell::default();
}

pub(crate) fn start() {
    THREADS.take();
    PLACES.take();
    STORED.take();
}

/// How many threads sleep without a limit at this moment. loom does not know of it: only for a thread that yields until it is so many.
pub fn asleep() -> usize {
    PLACES.with_borrow(|places| places.iter().filter(|place| place.is_taken.get()).count())
}

pub fn current() -> Thread {
    let new = || {
        Thread(Arc::new(Token {
            is_there: LoomMutex::new(false),
            place: Place::new(),
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
    while asleep() > 0 {
        let places = PLACES.with_borrow(Vec::clone);
        for place in places.iter().filter(|place| place.is_taken.get()) {
            place.notified.notify_one();
        }
        loom::thread::yield_now();
    }
}

impl Thread {
    pub fn name(&self) -> Option<&str> {
        None
    }

    pub fn unpark(&self) {
        *self.0.is_there.lock().expect("nobody panics under it") = true;
        self.0.place.notify();
    }
}

pub fn park() {
    let Thread(token) = current();
    let mut is_there = token.is_there.lock().expect("nobody panics under it");
    while !mem::take(&mut *is_there) {
        match token.place.wait(is_there) {
            Some(guard) => is_there = guard,
            None => return,
        }
    }
}

/// For a wait of no more than [`FOR_EVER`].
pub fn park_timeout(limit: Duration) {
    let Thread(token) = current();
    if !mem::take(&mut *token.is_there.lock().expect("nobody panics under it")) {
        pass(limit);
    }
}

/// What is longer than this is for things that the models have not (imports), and would only hide that nobody wakes the thread.
const FOR_EVER: Duration = Duration::from_millis(50);

/// Sleeps for that long.
fn pass(limit: Duration) {
    assert!(
        !interpreter::is_attached(),
        "I1: a thread sleeps while it is attached"
    );
    loom::thread::yield_now();
    clock::advance(limit);
    barrier::make();
}

/// A condition variable for one waiting thread at a time.
pub struct Condvar(Arc<Place>);

pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Condvar(Place::new())
    }

    pub fn notify_one(&self) {
        if !local::end_if_dead() {
            self.0.notify();
        }
    }

    /// Returns early, for a thread that is dead.
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            let Some(locked) = guard.guard.take() else {
                break;
            };
            guard.guard = self.0.wait(locked);
        }
        Ok(guard)
    }

    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        if limit > FOR_EVER {
            let guard = self
                .wait_while(guard, condition)
                .unwrap_or_else(PoisonError::into_inner);
            return Ok((guard, WaitTimeoutResult(false)));
        }
        if condition(&mut guard) {
            let mutex = guard.mutex;
            drop(guard);
            pass(limit);
            guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let timed_out = condition(&mut guard);
        Ok((guard, WaitTimeoutResult(timed_out)))
    }
}

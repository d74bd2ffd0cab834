//! What each thread holds and wants, as the thread itself believes: what a report of a deadlock is checked against.
//!
//! A thread enters that it wants a lock before it asks for it, and that it holds it from when it has it. So while a thread that was told
//! of a deadlock still holds what it held, the others of the cycle are asleep, and their entries say where.

use std::cell::{Cell, RefCell};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where a lock is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    start: usize,
    end: usize,
}

impl Place {
    /// For locks whose place is not known: they agree with every report.
    pub(super) const ANY: Place = Place {
        start: 0,
        end: usize::MAX,
    };

    pub(super) fn of<T>(lock: &T) -> Self {
        let start = (&raw const *lock).addr();
        Place {
            start,
            end: start + size_of::<T>().max(1),
        }
    }

    fn contains(self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

struct Entries {
    held: Vec<Place>,
    wanted: Vec<Place>,
    doing: &'static str,
    since: Instant,
    is_main: bool,
}

impl Entries {
    fn has(&self, address: usize) -> bool {
        let mut places = self.held.iter().chain(&self.wanted);
        places.any(|place| place.contains(address))
    }

    fn wants(&self, address: usize) -> bool {
        self.wanted.iter().any(|place| place.contains(address))
    }
}

static THREADS: Mutex<Vec<Arc<Mutex<Entries>>>> = Mutex::new(Vec::new());

/// The process of the round. In the child of a fork nothing is entered: another thread may have been in the middle of an entry.
static PROCESS: AtomicU32 = AtomicU32::new(0);

struct Mine(Arc<Mutex<Entries>>);

impl Drop for Mine {
    fn drop(&mut self) {
        if !is_forked() {
            locked(&THREADS).retain(|other| !Arc::ptr_eq(other, &self.0));
        }
    }
}

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
    static HELD: Cell<usize> = const { Cell::new(0) };
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mine<R: Default>(body: impl FnOnce(&mut Entries) -> R) -> R {
    if is_forked() {
        return R::default();
    }
    MINE.with_borrow_mut(|mine| {
        let mine = mine.get_or_insert_with(|| {
            let entries = Entries {
                held: Vec::new(),
                wanted: Vec::new(),
                doing: "nothing yet",
                since: Instant::now(),
                is_main: false,
            };
            let entries = Arc::new(Mutex::new(entries));
            locked(&THREADS).push(Arc::clone(&entries));
            Mine(entries)
        });
        body(&mut locked(&mine.0))
    })
}

pub(super) fn this_is_the_main_thread() {
    PROCESS.store(process::id(), SeqCst);
    mine(|entries| entries.is_main = true);
}

pub(super) fn is_main() -> bool {
    mine(|entries| entries.is_main)
}

pub(super) fn is_forked() -> bool {
    // Asked of the system: finalisers run in the child before `os.fork` has returned.
    process::id() != PROCESS.load(SeqCst)
}

/// What [`doing`] is told of a thread that waits for threads it started: they are looked at themselves.
pub(super) const JOINING: &str = "waits for its threads";

pub(super) fn doing(what: &'static str) {
    mine(|entries| {
        entries.doing = what;
        entries.since = Instant::now();
    });
}

/// Until it is dropped, this thread is one that others may be waiting for: what runs in the middle of an import, a finaliser or a signal
/// handler does not know what it holds.
pub(super) struct Inside;

pub(super) fn inside() -> Inside {
    HELD.set(HELD.get() + 1);
    Inside
}

impl Drop for Inside {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// Whether this thread has entered nothing: then others do not wait for it.
pub(super) fn holds_nothing() -> bool {
    HELD.get() == 0
}

/// An entry of this thread, until it is dropped.
#[must_use]
pub(super) struct Entry {
    place: Place,
    is_held: bool,
}

pub(super) fn want(place: Place) -> Entry {
    enter(place, false)
}

pub(super) fn hold(place: Place) -> Entry {
    enter(place, true)
}

fn enter(place: Place, is_held: bool) -> Entry {
    HELD.set(HELD.get() + 1);
    mine(|entries| {
        if is_held {
            entries.held.push(place);
        } else {
            entries.wanted.push(place);
        }
    });
    Entry { place, is_held }
}

impl Drop for Entry {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        mine(|entries| {
            let places = if self.is_held {
                &mut entries.held
            } else {
                &mut entries.wanted
            };
            let last = places.iter().rposition(|place| *place == self.place);
            places.remove(last.expect("it was entered"));
        });
    }
}

/// Whether this thread holds what is at `place`, or is in the middle of asking for it: in a signal handler that runs meanwhile.
pub(super) fn may_hold(place: Place) -> bool {
    is_forked()
        || mine(|entries| {
            let mut places = entries.held.iter().chain(&entries.wanted);
            places.any(|it| *it == place)
        })
}

/// Whether this thread holds what is at `place`.
pub(super) fn holds(place: Place) -> bool {
    is_forked() || mine(|entries| entries.held.contains(&place))
}

/// Why a report of a deadlock cannot be true, if so. To be asked by the thread that was told, which has not let go of anything yet.
pub(super) fn doubt(message: &str) -> Option<String> {
    if is_forked()
        || message.contains("waits to import the module")
        || message.starts_with("<unprintable")
    {
        // What threads do to modules is not entered. And to print an exception runs signal handlers, which may raise another one.
        return None;
    }
    let addresses = addresses(message);
    match addresses[..] {
        [] => Some("it names no lock".to_owned()),
        [address] => {
            let entered = mine(|entries| {
                let wanted = entries.wanted.iter();
                let wanted = wanted.filter(|place| place.contains(address)).count();
                wanted >= 2 || entries.held.iter().any(|place| place.contains(address))
            });
            (!entered).then(|| format!("this thread does not hold {address:#x}"))
        }
        _ => {
            // A signal may have ended the wait of the main thread. And one that was told that it cannot write keeps nobody waiting any more
            // who waited behind it. And one that waits for several readers may be in several cycles, and be told of another one meanwhile.
            let exceptions = [
                "MainThread",
                "which waits for readers to drain",
                "held for reading",
            ];
            let may_go_on = exceptions.iter().any(|words| message.contains(words));
            doubt_cycle(&addresses, may_go_on)
        }
    }
}

/// Each thread of a cycle wants its own address, and has that of the one before.
fn doubt_cycle(addresses: &[usize], may_go_on: bool) -> Option<String> {
    let (first, last) = (addresses[0], addresses[addresses.len() - 1]);
    if !mine(|entries| entries.wants(first) && entries.has(last)) {
        return Some(format!(
            "this thread does not want {first:#x}, or does not hold {last:#x}"
        ));
    }
    if may_go_on {
        return None;
    }
    let threads = locked(&THREADS).clone();
    addresses.windows(2).find_map(|pair| {
        let [held, wanted] = pair else {
            unreachable!("windows of two")
        };
        let is_there = threads.iter().any(|thread| {
            let entries = locked(thread);
            entries.wants(*wanted) && entries.has(*held)
        });
        (!is_there).then(|| format!("no thread holds {held:#x} and wants {wanted:#x}"))
    })
}

/// The addresses of the locks of a report, in its order.
fn addresses(message: &str) -> Vec<usize> {
    let named = message.split("the Py").skip(1);
    let addresses = named.filter_map(|text| {
        let text = text.trim_start_matches(char::is_alphanumeric);
        let text = text.strip_prefix(" at 0x")?;
        let digits = text.split(|c: char| !c.is_ascii_hexdigit()).next()?;
        usize::from_str_radix(digits, 16).ok()
    });
    addresses.collect()
}

/// What every thread is doing, if one has been doing the same for longer than `limit`.
pub(super) fn overdue(limit: Duration) -> Option<String> {
    let threads = locked(&THREADS).clone();
    let is_late = |thread: &Arc<Mutex<Entries>>| {
        let entries = locked(thread);
        entries.doing != JOINING && entries.since.elapsed() > limit
    };
    if !threads.iter().any(is_late) {
        return None;
    }
    let describe = |thread: &Arc<Mutex<Entries>>| {
        let Entries {
            held,
            wanted,
            doing,
            since,
            is_main,
        } = &*locked(thread);
        let who = if *is_main { "main thread" } else { "thread" };
        let time = since.elapsed().as_secs_f64();
        format!("  {who}: {doing} for {time:.1} s, holds {held:x?}, wants {wanted:x?}\n")
    };
    Some(threads.iter().map(describe).collect())
}

//! `PyCondvar` beside its peers: notifying nobody, and two threads that take turns.

use std::{
    hint::black_box,
    sync::{Barrier, Condvar, Mutex},
    thread,
    time::Instant,
};

use pyo3::Python;
use pyo3_sync::{
    PyCondvar, PyMutex,
    ext::{CondvarExt, MutexExt},
};

use crate::harness::{Group, OURS, Outcome, Peer, Round, Subject, compare};

pub(crate) const GROUP: Group = Group {
    name: "condvar",
    benchmarks: &[
        ("notify_one, nobody waits", notify_one),
        ("notify_all, nobody waits", notify_all),
        ("2 threads take turns", ping_pong),
    ],
    free_threaded_only: &[],
};

const STD: &str = "std";
const PARKING_LOT: &str = "parking_lot";

/// Shows a subject to the compiler as one that others know, so that no look at it can be left out.
fn known_to_others<T>(subject: T) -> Box<T> {
    let subject = Box::new(subject);
    black_box(&*subject);
    subject
}

fn nobody_waits(mut subjects: Vec<Subject<'_>>) -> Outcome {
    subjects.push(Subject::empty_loop());
    compare(31, subjects).target(Peer::Best, 1.0)
}

fn notify_one(_py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyCondvar::new());
    let std = known_to_others(Condvar::new());
    let parking_lot = known_to_others(parking_lot::Condvar::new());
    nobody_waits(vec![
        Subject::repeated(OURS, || ours.notify_one()),
        Subject::repeated(STD, || std.notify_one()),
        Subject::repeated(PARKING_LOT, || parking_lot.notify_one()),
    ])
}

fn notify_all(_py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyCondvar::new());
    let std = known_to_others(Condvar::new());
    let parking_lot = known_to_others(parking_lot::Condvar::new());
    nobody_waits(vec![
        Subject::repeated(OURS, || ours.notify_all()),
        Subject::repeated(STD, || std.notify_all()),
        Subject::repeated(PARKING_LOT, || parking_lot.notify_all()),
    ])
}

/// Whose turn it is: that of thread 0 or 1.
trait Turns: Default + Sync {
    const NAME: &'static str;

    /// Waits until it is the turn of `player`, and makes it the other one's.
    fn take(&self, py: Python<'_>, player: usize);
}

/// Waits as `Turns` does, with a guard in `turn`.
macro_rules! take {
    ($turn:ident, $player:ident, $wait:expr) => {{
        while *$turn != $player {
            $wait;
        }
        *$turn = 1 - $player;
    }};
}

#[derive(Default)]
struct Ours(PyMutex<usize>, PyCondvar);

impl Turns for Ours {
    const NAME: &'static str = OURS;

    fn take(&self, py: Python<'_>, player: usize) {
        let mut turn = self.0.lock(py);
        take!(turn, player, self.1.wait(&mut turn));
        drop(turn);
        self.1.notify_one();
    }
}

/// Attached threads, with our traits for what is there already.
#[derive(Default)]
struct StdExt(Mutex<usize>, Condvar);

impl Turns for StdExt {
    const NAME: &'static str = "pyo3-sync, ext on std";

    fn take(&self, py: Python<'_>, player: usize) {
        let mut turn = self.0.lock_attached(py).expect("nobody panics");
        take!(turn, player, {
            let waited = self.1.wait_attached(py, &self.0, turn);
            turn = waited.expect("nobody panics");
        });
        drop(turn);
        self.1.notify_one();
    }
}

/// What an author without this crate writes: all of it detached.
#[derive(Default)]
struct StdDetached(Mutex<usize>, Condvar);

impl Turns for StdDetached {
    const NAME: &'static str = "std, in detach";

    fn take(&self, py: Python<'_>, player: usize) {
        py.detach(|| {
            let mut turn = self.0.lock().expect("nobody panics");
            take!(turn, player, {
                turn = self.1.wait(turn).expect("nobody panics");
            });
            drop(turn);
            self.1.notify_one();
        });
    }
}

#[derive(Default)]
struct ParkingLotDetached(parking_lot::Mutex<usize>, parking_lot::Condvar);

impl Turns for ParkingLotDetached {
    const NAME: &'static str = "parking_lot, in detach";

    fn take(&self, py: Python<'_>, player: usize) {
        py.detach(|| {
            let mut turn = self.0.lock();
            take!(turn, player, self.1.wait(&mut turn));
            drop(turn);
            self.1.notify_one();
        });
    }
}

/// Two attached threads, each of which goes to sleep after each turn.
fn ping_pong(py: Python<'_>) -> Outcome {
    fn subject<T: Turns>(py: Python<'_>) -> Subject<'_> {
        Subject::new(T::NAME, move || play::<T>(py))
    }
    let subjects = vec![
        subject::<Ours>(py),
        subject::<StdExt>(py),
        subject::<StdDetached>(py),
        subject::<ParkingLotDetached>(py),
    ];
    compare(7, subjects).by_median()
}

/// As many for each of the two in a round: they end together, with nobody left waiting.
const TURNS: usize = 2000;

fn play<T: Turns>(py: Python<'_>) -> Round {
    let (turns, start) = (T::default(), Barrier::new(2));
    let (turns, start) = (&turns, &start);
    let player = |number| {
        Python::attach(|py| {
            py.detach(|| start.wait());
            let begun = Instant::now();
            for _ in 0..TURNS {
                turns.take(py, number);
            }
            begun.elapsed()
        })
    };
    let lasted = py.detach(|| {
        thread::scope(|scope| {
            let players = [0, 1].map(|number| scope.spawn(move || player(number)));
            let lasted = players.map(|player| player.join().expect("no player panics"));
            lasted[0].max(lasted[1])
        })
    });
    Round {
        nanoseconds: lasted.as_secs_f64() * 1e9 / (2 * TURNS) as f64,
        fairness: None,
    }
}

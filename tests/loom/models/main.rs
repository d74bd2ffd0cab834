//! Model checking of the state machines of `pyo3-sync`. `cargo xtask loom` runs all models, and
//! `cargo xtask loom --seeded-bugs` shows that they find bugs.
//!
//! `models [PREFIX]` runs the models whose names begin so.
//!
//! What runs is the files of `src/`, not a copy of what they do: the build script exchanges nothing but the paths to `std`, PyO3 and the
//! system, and a few numbers, and adds that whoever writes a word must be attached. loom tries every order of the threads, with at most as
//! many preemptions as a model says, and every value that a load may give by the memory model.
//!
//! # What they cannot see
//!
//! - Only what a bounded number of preemptions of two or three threads brings about.
//! - loom knows sequential consistency of fences only: what stands in for the accesses is told in `sync.rs`. And a fence of loom's
//!   synchronises, which one of the language does only through what is read.
//! - What an atomic begins with is seen by everybody: not whether the making of a record was passed on.
//! - Attaching and detaching order nothing in the free-threaded models, except in those that stop the world or shut down.
//! - Spinning before a sleep: in the models threads sleep at once. The spins of a thread that finds a cell being written are theirs.
//! - Three threads of which two spin so or sleep for a limited time: loom lets the two go on for ever and never the third. So those are in
//!   the models with a GIL only, where nobody spins; and a writer that gives up waiting for readers beside another one that waits for them
//!   is in none, since both sleep for a limited time. (shuttle, which tries random orders, would take them; its threads and atomics have
//!   other types, and nothing like the cells with which loom sees data that two threads use at once, so that it needs a second set of
//!   all that stands in.)
//! - A condition variable of `std` wakes up for notifications only. That its `wait_while` checks
//!   the condition again is not modelled.
//! - Time is a number that goes on when somebody looks. When a limit is over depends on the order of the threads, and on nothing else.
//! - Shutdown: a thread that attaches in vain hangs there, as from Python 3.14 on. That older versions unwind it, and we keep it, is for
//!   the suite, with those versions.
//!   A thread that hangs is ended, when the model has seen enough, without what it does then being seen by the others.
//! - Forks: a child has the memory of one moment, and one thread. loom has threads that all go on, each with a view of memory of its own.
//!   To freeze all but one, wherever they stand, is to give each access of the others a second meaning; and what the handlers must
//!   mend are locks of the system, which would be loom's. The suite and the stress test fork for real.
//! - Critical sections, and so the borrow flag of `PyProtected` (I5), imports, and threads that begin or end amid all this.

mod barrier;
mod condvar;
mod error;
mod module_state;
mod mutex;
mod once_lock;
mod parking;
mod rwlock;
mod shutdown;
mod snapshot;
mod wait_graph;

include!(concat!(env!("OUT_DIR"), "/python.rs"));
include!(concat!(env!("OUT_DIR"), "/wait.rs"));
include!(concat!(env!("OUT_DIR"), "/guard.rs"));

use std::{
    cell::Cell,
    env, panic,
    time::{Duration, Instant},
};

pub(crate) use module_state::PyOnceLock;
use stand_in::{
    execution::Settings,
    interpreter::Kind::{self, Free, Gil, Stopping},
};

pub(crate) struct Model {
    name: &'static str,
    settings: Settings,
    body: fn(),
}

/// Time goes on fast, but no sleeper is due.
const TICK: Duration = Duration::from_micros(150);
/// Time goes on so fast that whoever sleeps is due.
const SLOW: Duration = Duration::from_millis(2);

impl Model {
    const fn new(name: &'static str, body: fn(), world: Kind) -> Self {
        let settings = Settings {
            world,
            preemptions: None,
            tick: TICK,
            process_fence: false,
            barriers: false,
        };
        Model {
            name,
            settings,
            body,
        }
    }

    const fn preemptions(mut self, number: usize) -> Self {
        self.settings.preemptions = Some(number);
        self
    }

    const fn slow(mut self) -> Self {
        self.settings.tick = SLOW;
        self
    }

    const fn process_fence(mut self) -> Self {
        self.settings.process_fence = true;
        self.barriers()
    }

    const fn barriers(mut self) -> Self {
        self.settings.barriers = true;
        self
    }
}

/// Those of the kind of build that this is.
fn models() -> Vec<Model> {
    let world = if python::FREE_THREADED { Free } else { Gil };
    // Where the end of the interpreter is waited for at a gate.
    let gated = if python::FREE_THREADED { Stopping } else { Gil };
    let mut models = vec![
        Model::new("mutex::exclusion", mutex::exclusion, world),
        Model::new("mutex::three_threads", mutex::three_threads, world).preemptions(2),
        Model::new("mutex::reservation", mutex::reservation, world)
            .preemptions(2)
            .slow(),
        Model::new("mutex::due_waiter", mutex::due_waiter, world).preemptions(2),
        Model::new(
            "mutex::expired_reservation",
            mutex::expired_reservation,
            world,
        )
        .preemptions(2),
        Model::new("mutex::deadlock_of_two", mutex::deadlock_of_two, world).preemptions(2),
        Model::new("mutex::no_false_deadlock", mutex::no_false_deadlock, world).preemptions(2),
        Model::new("mutex::deadlock_of_three", mutex::deadlock_of_three, world).preemptions(2),
        Model::new("alone", mutex::alone, world),
        Model::new(
            "rwlock::writer_and_writer",
            rwlock::writer_and_writer,
            world,
        )
        .preemptions(2)
        .barriers(),
        Model::new("mutex::attaching", mutex::attaching_runs_code, world).preemptions(2),
        Model::new("mutex::limit", mutex::limit, world).preemptions(2),
        Model::new("mutex::interrupt", mutex::interrupt, world).preemptions(2),
        Model::new(
            "mutex::woken_and_interrupted",
            mutex::woken_and_interrupted,
            world,
        )
        .preemptions(1),
        Model::new("condvar::notification", condvar::notification, world).preemptions(3),
        Model::new("condvar::detached", condvar::notified_by_detached, world).preemptions(3),
        Model::new("condvar::for_two", condvar::notifications_for_two, world).preemptions(2),
        Model::new("condvar::for_all", condvar::notification_for_all, world).preemptions(2),
        Model::new("condvar::one_of_two", condvar::one_of_two, world).preemptions(2),
        Model::new("condvar::limit", condvar::limit, world).preemptions(2),
        Model::new("condvar::interrupt", condvar::interrupt, world).preemptions(2),
        Model::new("barrier::two_threads", barrier::two_threads, world).preemptions(2),
        Model::new("barrier::three_threads", barrier::three_threads, world).preemptions(1),
        Model::new("barrier::limit", barrier::limit, world).preemptions(2),
        Model::new("condvar::passed_on", condvar::passed_on, world).preemptions(2),
        Model::new("mutex::given_up", mutex::given_up_wait, world).preemptions(2),
        Model::new(
            "parking::fair_unlocks_are_per_lock",
            parking::fair_unlocks_are_per_lock,
            world,
        )
        .preemptions(1),
        Model::new(
            "parking::fair_unlocks_are_rare",
            parking::fair_unlocks_are_rare,
            world,
        )
        .preemptions(2),
        Model::new("parking::users_token", parking::users_token, world).preemptions(2),
        Model::new("wait_graph::two_kinds", wait_graph::mutex_and_rwlock, world)
            .preemptions(2)
            .barriers(),
        Model::new("wait_graph::readers", wait_graph::readers_that_write, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::limit", rwlock::limit, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::interrupt", rwlock::interrupt, world)
            .preemptions(2)
            .barriers(),
        Model::new("shutdown::mutex", shutdown::mutex, gated).preemptions(2),
        Model::new("shutdown::reservation", shutdown::mutex, gated)
            .preemptions(2)
            .slow(),
        Model::new("shutdown::writer", shutdown::writer, gated)
            .preemptions(2)
            .barriers(),
        Model::new(
            "shutdown::writer_that_timed_out",
            shutdown::writer_that_timed_out,
            gated,
        )
        .preemptions(2)
        .barriers(),
        Model::new("shutdown::reader", shutdown::reader, gated)
            .preemptions(2)
            .barriers(),
        Model::new("shutdown::initialiser", shutdown::initialiser, gated).preemptions(2),
        Model::new("shutdown::condvar", shutdown::condvar, gated).preemptions(2),
        Model::new("once_lock::exactly_once", once_lock::exactly_once, world).preemptions(2),
        Model::new("once_lock::failure", once_lock::failure, world).preemptions(2),
        Model::new("once_lock::waiting", once_lock::waiting, world).preemptions(2),
        Model::new("once_lock::try_take_over", once_lock::try_take_over, world).preemptions(2),
        Model::new(
            "once_lock::wakes_initializers",
            once_lock::completion_wakes_initializers,
            world,
        )
        .preemptions(2),
        Model::new(
            "once_lock::wakes_waiters",
            once_lock::completion_wakes_waiters,
            world,
        )
        .preemptions(2),
        Model::new("rwlock::exclusion", rwlock::exclusion, world)
            .preemptions(3)
            .barriers(),
        Model::new("rwlock::second_read", rwlock::second_read, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::leaving", rwlock::leaving, world)
            .preemptions(3)
            .barriers(),
        Model::new("rwlock::writer_detaches", rwlock::writer_detaches, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::nested_read", rwlock::nested_read, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::try_write", rwlock::try_write, world)
            .preemptions(3)
            .barriers(),
        Model::new("rwlock::try_read", rwlock::try_read, world)
            .preemptions(3)
            .barriers(),
        Model::new("rwlock::two_try_write", rwlock::two_try_write, world).preemptions(3),
        Model::new(
            "rwlock::failed::try_read_and_try_write",
            rwlock::try_read_and_try_write,
            world,
        )
        .preemptions(3)
        .barriers(),
        Model::new(
            "rwlock::failed::try_write_beside_reader",
            rwlock::try_write_beside_reader,
            world,
        )
        .preemptions(2)
        .barriers(),
        Model::new(
            "rwlock::failed::try_read_beside_parked_writer",
            rwlock::try_read_beside_parked_writer,
            world,
        )
        .preemptions(2)
        .barriers(),
        Model::new("rwlock::downgrade", rwlock::downgrade, world)
            .preemptions(2)
            .barriers(),
        Model::new(
            "rwlock::downgrade_wakes_reader",
            rwlock::downgrade_wakes_reader,
            world,
        )
        .preemptions(2),
        Model::new("rwlock::three_writers", rwlock::three_writers, world).preemptions(2),
        Model::new(
            "rwlock::three_writers_two_due",
            rwlock::three_writers_two_due,
            world,
        )
        .preemptions(2),
        Model::new(
            "rwlock::reader_and_writers",
            rwlock::reader_and_writers,
            world,
        )
        .preemptions(1)
        .barriers(),
        Model::new(
            "rwlock::reader_and_writers_due",
            rwlock::reader_and_writers_due,
            world,
        )
        .preemptions(1)
        .barriers(),
        Model::new("rwlock::due_reader", rwlock::due_reader, world)
            .preemptions(2)
            .barriers(),
        Model::new("rwlock::due_writer", rwlock::due_writer, world).preemptions(2),
        Model::new(
            "rwlock::expired_for_reader",
            rwlock::expired_for_reader,
            world,
        )
        .preemptions(2)
        .barriers(),
        Model::new(
            "rwlock::expired_for_writer",
            rwlock::expired_for_writer,
            world,
        )
        .preemptions(2),
        Model::new("rwlock::writer_times_out", rwlock::writer_times_out, world).preemptions(1),
        Model::new("rwlock::read_then_read", rwlock::read_then_read, world)
            .preemptions(3)
            .barriers(),
        Model::new("rwlock::read_then_state", rwlock::read_then_state, world)
            .preemptions(2)
            .process_fence(),
        Model::new("rwlock::attempts", rwlock::attempts, world)
            .preemptions(3)
            .barriers(),
        Model::new(
            "rwlock::attempt_that_fails",
            rwlock::attempt_that_fails,
            world,
        )
        .preemptions(3),
        Model::new("rwlock::reader_ends", rwlock::reader_ends, world)
            .preemptions(3)
            .barriers(),
        Model::new(
            "rwlock::unlinked_during_scan",
            rwlock::unlinked_during_scan,
            world,
        )
        .preemptions(2)
        .barriers(),
        Model::new(
            "rwlock::linked_again_during_scan",
            rwlock::linked_again_during_scan,
            world,
        )
        .preemptions(1)
        .barriers(),
        Model::new(
            "rwlock::former_reads_cost_nothing",
            rwlock::former_reads_cost_nothing,
            world,
        ),
        Model::new(
            "rwlock::ended_threads_cost_nothing",
            rwlock::ended_threads_cost_nothing,
            world,
        )
        .preemptions(1),
        Model::new("module_state::drop", module_state::dropped, world).preemptions(3),
        Model::new("module_state::drop_barrier", module_state::dropped, world)
            .preemptions(3)
            .process_fence(),
        Model::new(
            "module_state::returning",
            module_state::dropped_beside_returning_reader,
            world,
        )
        .preemptions(3),
        Model::new(
            "module_state::returning_barrier",
            module_state::dropped_beside_returning_reader,
            world,
        )
        .preemptions(3)
        .process_fence(),
        Model::new("module_state::reused", module_state::reused, world).preemptions(2),
        Model::new("module_state::reused_barrier", module_state::reused, world)
            .preemptions(2)
            .process_fence(),
        Model::new("module_state::left_last", module_state::left_last, world).preemptions(2),
        Model::new(
            "module_state::left_last_barrier",
            module_state::left_last,
            world,
        )
        .preemptions(2)
        .process_fence(),
        Model::new(
            "module_state::two_readers",
            module_state::two_readers,
            world,
        )
        .preemptions(2),
        Model::new(
            "module_state::two_readers_barrier",
            module_state::two_readers,
            world,
        )
        .preemptions(2)
        .process_fence(),
        Model::new("module_state::condemned", module_state::condemned, world).preemptions(3),
        Model::new(
            "module_state::two_modules",
            module_state::two_modules,
            world,
        )
        .preemptions(2),
        Model::new("module_state::handle", module_state::handle, world).preemptions(2),
        Model::new("snapshot::store", snapshot::stored, world).preemptions(3),
        Model::new("snapshot::store_barrier", snapshot::stored, world)
            .preemptions(3)
            .process_fence(),
        Model::new(
            "snapshot::returning",
            snapshot::stored_beside_returning_reader,
            world,
        )
        .preemptions(3),
        Model::new(
            "snapshot::returning_barrier",
            snapshot::stored_beside_returning_reader,
            world,
        )
        .preemptions(3)
        .process_fence(),
        Model::new("snapshot::reused", snapshot::reused, world).preemptions(2),
        Model::new("snapshot::reused_barrier", snapshot::reused, world)
            .preemptions(2)
            .process_fence(),
        Model::new("snapshot::left_last", snapshot::left_last, world).preemptions(2),
        Model::new("snapshot::left_last_barrier", snapshot::left_last, world)
            .preemptions(2)
            .process_fence(),
        Model::new("snapshot::two_readers", snapshot::two_readers, world).preemptions(2),
        Model::new(
            "snapshot::two_readers_barrier",
            snapshot::two_readers,
            world,
        )
        .preemptions(2)
        .process_fence(),
        Model::new("snapshot::nested", snapshot::nested, world).preemptions(2),
        Model::new("snapshot::nested_barrier", snapshot::nested, world)
            .preemptions(2)
            .process_fence(),
        Model::new("snapshot::two_stores", snapshot::two_stores, world).preemptions(2),
        Model::new("snapshot::two_stores_barrier", snapshot::two_stores, world)
            .preemptions(2)
            .process_fence(),
        Model::new("snapshot::two_updates", snapshot::two_updates, world).preemptions(2),
        Model::new(
            "snapshot::two_updates_barrier",
            snapshot::two_updates,
            world,
        )
        .preemptions(2)
        .process_fence(),
        Model::new(
            "snapshot::update_and_store",
            snapshot::update_and_store,
            world,
        )
        .preemptions(2),
        Model::new(
            "snapshot::update_and_store_barrier",
            snapshot::update_and_store,
            world,
        )
        .preemptions(2)
        .process_fence(),
        Model::new(
            "snapshot::update_and_read",
            snapshot::update_and_read,
            world,
        )
        .preemptions(3),
        Model::new(
            "snapshot::update_and_read_barrier",
            snapshot::update_and_read,
            world,
        )
        .preemptions(3)
        .process_fence(),
        Model::new("snapshot::undecided", snapshot::undecided, world).preemptions(2),
        Model::new("snapshot::undecided_barrier", snapshot::undecided, world)
            .preemptions(2)
            .process_fence(),
        Model::new("snapshot::two_loads", snapshot::two_loads, world).preemptions(3),
        Model::new("snapshot::two_loads_barrier", snapshot::two_loads, world)
            .preemptions(3)
            .process_fence(),
        Model::new("snapshot::two_types", snapshot::two_types, world).preemptions(3),
        Model::new("snapshot::two_types_barrier", snapshot::two_types, world)
            .preemptions(2)
            .process_fence(),
    ];
    if python::FREE_THREADED {
        models.extend([
            Model::new("mutex::stopped_world", mutex::stopped_world, Stopping).preemptions(2),
            Model::new("rwlock::stopped_world", rwlock::stopped_world, Stopping)
                .preemptions(2)
                .barriers(),
            Model::new("snapshot::stopped_world", snapshot::stopped_world, Stopping).preemptions(2),
            Model::new(
                "once_lock::stopped_world",
                once_lock::stopped_world,
                Stopping,
            )
            .preemptions(3),
        ]);
    } else {
        // Too much for loom where three threads run at once.
        models
            .push(Model::new("mutex::handler", mutex::woken_runs_a_handler, world).preemptions(2));
        let body = once_lock::waiting_with_failure;
        models.push(Model::new("once_lock::waiting_with_failure", body, world).preemptions(2));
        models.push(
            Model::new("wait_graph::three_kinds", wait_graph::three_kinds, world)
                .preemptions(2)
                .barriers(),
        );
        models.push(
            Model::new("rwlock::reader_sleeps", rwlock::reader_sleeps, world)
                .preemptions(2)
                .barriers(),
        );
    }
    models
}

thread_local! {
    /// The name of the model that runs.
    static CURRENT: Cell<&'static str> = const { Cell::new("") };
}

/// Reports the first panic and exits: the destructors that a panic runs may panic, or access what
/// loom has freed, which would hide the assertion that failed.
fn report_first_panic() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let literal = payload.downcast_ref::<&str>().copied();
        let formatted = payload.downcast_ref::<String>().map(String::as_str);
        let message = literal.or(formatted).unwrap_or("a panic without message");
        let reason = match message.strip_prefix("deadlock; ") {
            Some(threads) => format!("lost wake-up: no thread can run; {threads}"),
            None => message.to_owned(),
        };
        println!("model {}: FAILED: {reason}", CURRENT.get());
        if let Some(location) = info.location() {
            println!("at {location}");
        }
        println!("test result: FAILED. 1 failed;");
        // SAFETY: No preconditions.
        unsafe { libc::_exit(1) };
    }));
}

fn main() {
    let wanted = env::args().nth(1).unwrap_or_default();
    report_first_panic();
    let mut passed = 0;
    for model in models() {
        if !model.name.starts_with(&wanted) {
            continue;
        }
        let start = Instant::now();
        CURRENT.set(model.name);
        let runs = stand_in::model(model.settings, model.body);
        passed += 1;
        let time = start.elapsed().as_secs_f32();
        println!("model {}: ok, {runs} runs, {time:.1} s", model.name);
    }
    println!("test result: ok. {passed} passed; 0 failed;");
}

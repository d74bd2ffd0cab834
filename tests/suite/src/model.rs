//! Random sequences of operations, nested in each other, on one thread: whatever `std` says, our primitives say too.
//!
//! The reference is [`Mutex`], [`RwLock`] and [`RefCell`] in their forms that do not wait, and [`OnceLock`] with a mark "is being filled" (without it,
//! for a `GILOnceCell`). Where one of them would block, a single thread waits for itself: ours report a deadlock, or are out of time.
//!
//! Sequences are made of random bytes by `arbitrary`. Each is made of a stream of its own, so that `PYO3_SYNC_SEED` and its number, which are
//! printed with one that fails, give it again: `PYO3_SYNC_SEED=17 PYO3_SYNC_SEQUENCE=3 cargo test model::`. What is printed of it is what is left when
//! everything was left out without which it fails as well.
//!
//! [`Mutex`]: std::sync::Mutex
//! [`RwLock`]: std::sync::RwLock
//! [`RefCell`]: std::cell::RefCell
//! [`OnceLock`]: std::sync::OnceLock

mod operation;
mod run;
mod shrink;

use std::{
    any::Any,
    env,
    panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use arbitrary::{Arbitrary, Unstructured};
use pyo3::prelude::*;

use self::{
    operation::Operation,
    run::{Deliberate, Ours, Reference, Run},
};
use crate::{panics::silence_deadlocks, random::Random, registry::Module, test};

/// How many sequences are run, and how many bytes each is made of at most.
const SEQUENCES: usize = 4000;
const BYTES: usize = 400;

/// A sequence takes a millisecond or two. One that takes so long hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// The number of the sequence that is run.
static SEQUENCE: AtomicUsize = AtomicUsize::new(0);

/// How often one was begun, or a part of one.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

fn sequence(random: &Random, number: usize) -> Vec<Operation> {
    let mut stream = random.stream(number as u64);
    let length = stream.below(BYTES);
    let bytes: Vec<u8> = (0..length).map(|_| stream.next() as u8).collect();
    let (mut bytes, mut operations) = (Unstructured::new(&bytes), Vec::new());
    while !bytes.is_empty() {
        let operation = Operation::arbitrary(&mut bytes);
        operations.push(operation.expect("any bytes will do"));
    }
    operations
}

/// Runs the operations at the top one by one, so that a panic ends one of them.
fn check(py: Python<'_>, operations: &[Operation]) -> Result<(), Box<dyn Any + Send>> {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    let (ours, reference) = (Ours::default(), Reference::default());
    let run = Run {
        py,
        ours: &ours,
        reference: &reference,
    };
    for operation in operations {
        match catch_unwind(AssertUnwindSafe(|| run.one(operation))) {
            Err(payload) if !payload.is::<Deliberate>() => return Err(payload),
            _ => {}
        }
        catch_unwind(AssertUnwindSafe(|| run.states_are_the_same()))?;
    }
    Ok(())
}

/// Ends the process when a sequence takes too long, after having told which.
fn watch() {
    thread::spawn(|| {
        loop {
            let before = BEGUN.load(Ordering::Relaxed);
            thread::sleep(LIMIT);
            if BEGUN.load(Ordering::Relaxed) == before {
                let number = SEQUENCE.load(Ordering::Relaxed);
                eprintln!("PYO3_SYNC_SEQUENCE={number} hangs, or a part of it does");
                process::exit(1);
            }
        }
    });
}

fn whatever_std_says(py: Python<'_>) -> PyResult<()> {
    silence_deadlocks();
    let random = Random::announced();
    let wanted = env::var("PYO3_SYNC_SEQUENCE").ok();
    let wanted = wanted.and_then(|number| number.parse::<usize>().ok());
    let numbers = wanted.map_or(0..SEQUENCES, |number| number..number + 1);
    watch();
    let mut count = 0;
    for number in numbers.clone() {
        SEQUENCE.store(number, Ordering::Relaxed);
        let operations = sequence(&random, number);
        if wanted.is_some() {
            eprintln!("PYO3_SYNC_SEQUENCE={number}: {operations:?}");
        }
        count += operations.len();
        if let Err(payload) = check(py, &operations) {
            let print = panic::take_hook();
            panic::set_hook(Box::new(|_| {}));
            let shortest = shrink::shortest(operations, |shorter| check(py, shorter).is_err());
            panic::set_hook(print);
            eprintln!("PYO3_SYNC_SEQUENCE={number} fails, and so do these alone: {shortest:?}");
            let _ = check(py, &shortest);
            resume_unwind(payload);
        }
    }
    println!("{count} operations, not counting those inside others");
    assert!(
        wanted.is_some() || count > SEQUENCES,
        "most sequences are empty"
    );
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[test!(whatever_std_says).limit(60)],
    scenarios: &[],
};

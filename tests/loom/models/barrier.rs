//! The barrier: nobody goes on before all have come, and one of them is told to lead.

use std::{cell::Cell, rc::Rc, time::Duration};

use stand_in::{JoinHandle, interpreter::attach, spawn};

include!(concat!(env!("OUT_DIR"), "/barrier.rs"));

use subject::PyBarrier;

struct Meeting {
    barrier: PyBarrier,
    threads: usize,
    come: Cell<usize>,
    leaders: Cell<usize>,
}

impl Meeting {
    fn new(threads: usize) -> Rc<Self> {
        Rc::new(Meeting {
            barrier: PyBarrier::new(threads),
            threads,
            come: Cell::new(0),
            leaders: Cell::new(0),
        })
    }

    fn come(&self) -> usize {
        self.come.set(self.come.get() + 1);
        self.come.get()
    }

    /// Meets the others, that many times.
    fn attend(self: &Rc<Self>, times: usize) -> impl FnOnce() + use<> {
        let meeting = Rc::clone(self);
        move || {
            for time in 1..=times {
                meeting.come();
                let result = attach(|py| meeting.barrier.wait(py));
                let all = time * meeting.threads;
                assert!(meeting.come.get() >= all, "somebody is missing");
                if result.is_leader() {
                    meeting.leaders.set(meeting.leaders.get() + 1);
                }
            }
        }
    }

    fn hold(self: &Rc<Self>, times: usize) {
        let others: Vec<_> = (1..self.threads)
            .map(|_| spawn(self.attend(times)))
            .collect();
        self.attend(times)();
        others.into_iter().for_each(JoinHandle::join);
        assert_eq!(self.leaders.get(), times);
    }
}

/// Two threads that meet twice.
pub(crate) fn two_threads() {
    Meeting::new(2).hold(2);
}

pub(crate) fn three_threads() {
    Meeting::new(3).hold(1);
}

/// One thread does not wait for long. When it has given up it has not come, and must come again.
pub(crate) fn limit() {
    let meeting = Meeting::new(2);
    let other = {
        let attend = meeting.attend(1);
        spawn(move || {
            // It may come too late.
            loom::thread::yield_now();
            attend();
        })
    };
    meeting.come();
    let in_time = attach(|py| {
        let met = meeting.barrier.wait_with(py, Duration::from_millis(1)).ok();
        met.map(|result| result.is_leader())
    });
    match in_time {
        Some(leads) => {
            assert_eq!(meeting.come.get(), 2, "somebody is missing");
            meeting
                .leaders
                .set(meeting.leaders.get() + usize::from(leads));
        }
        None => {
            meeting.come.set(meeting.come.get() - 1);
            meeting.attend(1)();
        }
    }
    other.join();
    assert_eq!(meeting.leaders.get(), 1);
}

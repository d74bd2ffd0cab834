//! Asks for everything where any answer will do, but there must be one: in the child of a fork, and at the end of the interpreter.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3_sync::Wait;

use super::world::{Payload, world};

pub(super) fn ask_for_everything(py: Python<'_>) {
    const MOMENT: Duration = Duration::from_millis(1);
    let world = world();
    for it in &world.mutexes {
        drop(it.lock.try_lock(py));
        drop(it.lock.lock_with(py, MOMENT));
        drop(it.lock.lock_checked(py));
    }
    for it in &world.rwlocks {
        drop(it.lock.try_read(py));
        drop(it.lock.read_checked(py));
        drop(it.lock.write_with(py, MOMENT));
        drop(it.lock.write_checked(py));
    }
    for it in &world.protected {
        drop(it.lock.try_with_mut(py, |account| account.first));
    }
    if let Ok(mut queue) = world.queue.lock_checked(py) {
        world.added.notify_one();
        drop(world.added.wait_with(&mut queue, MOMENT));
        world.added.notify_all();
    }
    // Its lock is one of `std`, which a thread that is not there may have.
    let cells = world.cells.try_lock().ok().map(|cells| cells.clone());
    if let Some(cells) = cells {
        let fill = || Ok(Payload::new(0, py.None()));
        drop(cells.cell.get_or_try_init_py(py, fill).map(drop));
        drop(cells.once.call_once_force_with(py, Wait::new(), |_| ()));
        if cells.cell.is_initialized() {
            drop(
                cells
                    .cell
                    .wait_with(py, Wait::new().interruptible())
                    .map(drop),
            );
        }
        cells.old.get_or_init(py, || Payload::new(0, py.None()));
    }
}

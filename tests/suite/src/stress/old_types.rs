//! The types that PyO3 has removed: `GILOnceCell`, which may run several initialisers and keeps the first value, and `GILProtected`, which
//! protects what is done in one go while there is a GIL.

use pyo3::prelude::*;

use super::actions::{cells, deliberate, meanwhile, mortal};
use super::chance::{number, one_in};
use super::world::{Payload, expect};

pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    if one_in(3) {
        with_a_gil::step(py);
        return Ok(());
    }
    let cells = cells();
    let before = cells.old.get(py).map(|value| value.number);
    // Threads do not wait for each other here: nothing is entered, and whatever they do in the middle is well.
    let value = cells.old.get_or_try_init(py, || {
        meanwhile(py)?;
        if one_in(10) {
            return Err(deliberate(py));
        }
        Ok(Payload::new(
            number(),
            mortal(py)?.unwrap_or_else(|| py.None()),
        ))
    })?;
    expect(
        before.is_none_or(|before| before == value.number),
        "a cell has changed its value",
    );
    let refused = cells.old.set(py, Payload::new(number(), py.None()));
    expect(refused.is_err(), "a cell was filled twice");
    meanwhile(py)?;
    let again = cells.old.get(py).map(|value| value.number);
    expect(again == Some(value.number), "a cell has changed its value");
    Ok(())
}

#[cfg(not(Py_GIL_DISABLED))]
#[allow(deprecated, reason = "it is, and tested all the same")]
mod with_a_gil {
    use std::cell::Cell;
    use std::thread;

    use pyo3::prelude::*;
    use pyo3_sync::compat::GILProtected;

    use super::expect;

    pub(super) fn step(py: Python<'_>) {
        static ACCOUNT: GILProtected<Cell<(u64, u64)>> = GILProtected::new(Cell::new((0, 0)));
        let account = ACCOUNT.get(py);
        let (first, second) = account.get();
        expect(first == second, "two threads have the GIL");
        account.set((first + 1, second));
        thread::yield_now();
        expect(
            account.get() == (first + 1, second),
            "two threads have the GIL",
        );
        account.set((first + 1, second + 1));
    }
}

/// That it does not compile is a case in `tests/compile_fail`.
#[cfg(Py_GIL_DISABLED)]
mod with_a_gil {
    pub(super) fn step(_: pyo3::Python<'_>) {}
}

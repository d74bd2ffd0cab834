//! Accounts with one lock for what belongs together, and one order for taking two of them.

use std::ptr;

use pyo3::prelude::*;
use pyo3_sync::{DeadlockError, PyMutex, PyMutexGuard};

struct Ledger {
    balance: i64,
    /// How many deposits and withdrawals there were.
    entries: u64,
}

impl Ledger {
    fn enter(&mut self, amount: i64) {
        self.balance += amount;
        self.entries += 1;
    }
}

#[pyclass(frozen)]
struct Account(PyMutex<Ledger>);

type Guards<'py> = (PyMutexGuard<'py, Ledger>, PyMutexGuard<'py, Ledger>);

/// Locks two accounts, the one at the lower address first: threads that all do so never wait for each other in a circle.
///
/// If both are the same account, the second lock is refused with an error, and not waited for.
fn lock_both<'py>(
    py: Python<'py>,
    one: &'py Account,
    other: &'py Account,
) -> Result<Guards<'py>, DeadlockError> {
    if ptr::from_ref(one) < ptr::from_ref(other) {
        let one = one.0.lock_checked(py)?;
        Ok((one, other.0.lock_checked(py)?))
    } else {
        let other = other.0.lock_checked(py)?;
        Ok((one.0.lock_checked(py)?, other))
    }
}

#[pymethods]
impl Account {
    #[new]
    fn new(balance: i64) -> Self {
        Account(PyMutex::new(Ledger {
            balance,
            entries: 0,
        }))
    }

    fn deposit(&self, py: Python<'_>, amount: i64) -> PyResult<()> {
        self.0.lock_checked(py)?.enter(amount);
        Ok(())
    }

    /// The balance, and the number of entries that made it.
    fn statement(&self, py: Python<'_>) -> PyResult<(i64, u64)> {
        let ledger = self.0.lock_checked(py)?;
        Ok((ledger.balance, ledger.entries))
    }

    fn transfer(&self, py: Python<'_>, to: &Account, amount: i64) -> PyResult<()> {
        let (mut from, mut to) = lock_both(py, self, to)?;
        from.enter(-amount);
        to.enter(amount);
        Ok(())
    }
}

#[pymodule(gil_used = false)]
mod account_after {
    #[pymodule_export]
    use super::Account;
}

//! Accounts with a lock for each field, taken in the order in which they come up.
//!
//! Each field is safe. What is not: that balance and entries agree whenever somebody looks, and that two transfers in
//! opposite directions ever end. With the GIL nobody could look in the middle, and nobody could hold the one lock while another
//! had the other.

use std::sync::{Mutex, MutexGuard};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Account {
    balance: Mutex<i64>,
    /// How many deposits and withdrawals there were.
    entries: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}

#[pymethods]
impl Account {
    #[new]
    fn new(balance: i64) -> Self {
        Account {
            balance: Mutex::new(balance),
            entries: Mutex::new(0),
        }
    }

    fn deposit(&self, amount: i64) {
        *lock(&self.balance) += amount;
        *lock(&self.entries) += 1;
    }

    /// The balance, and the number of entries that made it.
    fn statement(&self) -> (i64, u64) {
        (*lock(&self.balance), *lock(&self.entries))
    }

    fn transfer(&self, to: &Account, amount: i64) {
        let mut from_balance = lock(&self.balance);
        let mut to_balance = lock(&to.balance);
        *from_balance -= amount;
        *to_balance += amount;
        *lock(&self.entries) += 1;
        *lock(&to.entries) += 1;
    }
}

#[pymodule(gil_used = false)]
mod account_before {
    #[pymodule_export]
    use super::Account;
}

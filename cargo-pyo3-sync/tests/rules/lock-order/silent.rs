use std::{ptr, sync::Mutex};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Account {
    balance: Mutex<i64>,
    entries: Mutex<u64>,
}

#[pymethods]
impl Account {
    // One lock at a time, and different ones.
    fn transfer(&self, to: &Account, amount: i64) {
        *self.balance.lock().unwrap() -= amount;
        *to.balance.lock().unwrap() += amount;
        let _balance = self.balance.lock().unwrap();
        let _entries = self.entries.lock().unwrap();
    }

    fn ordered(&self, to: &Account, amount: i64) {
        let (first, second) = if ptr::from_ref(self) < ptr::from_ref(to) { (self, to) } else { (to, self) };
        let mut one = first.balance.lock().unwrap();
        let mut other = second.balance.lock().unwrap();
        *one -= amount;
        *other += amount;
    }
}

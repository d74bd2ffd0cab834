use std::sync::Mutex;

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Account {
    balance: Mutex<i64>,
}

#[pymethods]
impl Account {
    fn transfer(&self, to: &Account, amount: i64) {
        let mut from_balance = self.balance.lock().unwrap();
        let mut to_balance = to.balance.lock().unwrap(); //~ lock-order
        *from_balance -= amount;
        *to_balance += amount;
    }
}

use std::sync::{Mutex, RwLock};

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

#[pyclass(frozen)]
struct Table {
    rows: RwLock<Vec<i64>>,
}

#[pymethods]
impl Table {
    // That addresses of what is in the locks are compared gives the locks no order; and readers wait for writers that wait.
    fn same_rows(&self, other: &Self) -> bool {
        let these = self.rows.read().unwrap();
        let those = other.rows.read().unwrap(); //~ lock-order
        these.iter().zip(those.iter()).all(|(one, another)| same(one.as_ptr(), another.as_ptr()))
    }

    fn clear(&self) {
        self.rows.write().unwrap().clear();
    }
}

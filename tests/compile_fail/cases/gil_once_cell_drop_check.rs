//! A cell drops its value, which may look at what it borrows: that must still be there.
//@ error: E0597

use pyo3::Python;
use pyo3_sync::compat::GILOnceCell;

struct Inspector<'a>(&'a str);

impl Drop for Inspector<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

pub fn case(py: Python<'_>) {
    // Dropped from right to left.
    #[cfg(feature = "fail")]
    let (cell, text);
    #[cfg(not(feature = "fail"))]
    let (text, cell);
    text = String::from("borrowed");
    cell = GILOnceCell::new();
    cell.get_or_init(py, || Inspector(&text));
}

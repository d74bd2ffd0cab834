//! A lazy value is dropped with what it was made from, and may look at what it borrows: that must still be there.
//@ error: E0597

use pyo3_sync::PyTryLazy;

struct Inspector<'a>(&'a str);

impl Drop for Inspector<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

pub fn case() {
    // Dropped from right to left.
    #[cfg(feature = "fail")]
    let (lazy, text);
    #[cfg(not(feature = "fail"))]
    let (text, lazy);
    text = String::from("borrowed");
    lazy = PyTryLazy::new(|_| Ok(Inspector(&text)));
    let _ = &lazy;
}

//! A lock drops its value, which may look at what it borrows: that must still be there.
//@ error: E0597

use pyo3_sync::PyRwLock;

struct Inspector<'a>(&'a str);

impl Drop for Inspector<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

pub fn case() {
    // Dropped from right to left.
    #[cfg(feature = "fail")]
    let (lock, text);
    #[cfg(not(feature = "fail"))]
    let (text, lock);
    text = String::from("borrowed");
    lock = PyRwLock::new(Inspector(&text));
    let _ = &lock;
}

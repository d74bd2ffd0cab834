//! A snapshot drops its value, so what the value borrows must outlive the snapshot.
//@ error: E0597

use pyo3_sync::PySnapshot;

struct Inspector<'a>(&'a str);

impl Drop for Inspector<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

pub fn case() {
    // Dropped from right to left.
    #[cfg(feature = "fail")]
    let (snapshot, text);
    #[cfg(not(feature = "fail"))]
    let (text, snapshot);
    text = String::from("borrowed");
    snapshot = PySnapshot::new(Inspector(&text));
    let _ = &snapshot;
}

//! A borrow that nobody keeps ends before the next statement.
//@ error: unused_must_use
//@ says: if unused the borrow ends at once
#![deny(unused_must_use)]

use pyo3_sync::critical_section::EnteredCriticalSection;

pub fn case(entered: EnteredCriticalSection<'_, i32>) {
    #[cfg(feature = "fail")]
    entered.borrow();
    #[cfg(not(feature = "fail"))]
    let _guard = entered.borrow();
}

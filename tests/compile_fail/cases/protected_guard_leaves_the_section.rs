//! A borrow ends before the section does.
//@ error: E0515
//@ places: 2

use pyo3_sync::critical_section::{EnteredCriticalSection, ProtectedRef, ProtectedRefMut};

#[cfg(feature = "fail")]
pub type Entered<'a> = EnteredCriticalSection<'a, i32>;
#[cfg(not(feature = "fail"))]
pub type Entered<'a> = &'a EnteredCriticalSection<'a, i32>;

pub fn shared<'a>(entered: Entered<'a>) -> ProtectedRef<'a, i32> {
    entered.borrow()
}

pub fn exclusive<'a>(entered: Entered<'a>) -> ProtectedRefMut<'a, i32> {
    entered.borrow_mut()
}

//! Without the flag of the cell nothing keeps a thread that is suspended in the section from having the data too.
//@ error: E0133
//@ places: 2

use pyo3_sync::critical_section::EnteredCriticalSection;

pub fn case(mut entered: EnteredCriticalSection<'_, i32>) -> i32 {
    #[cfg(feature = "fail")]
    return *entered.get() + *entered.get_mut();
    #[cfg(not(feature = "fail"))]
    // SAFETY: nothing is called while the references are used.
    return unsafe { *entered.get() + *entered.get_mut() };
}

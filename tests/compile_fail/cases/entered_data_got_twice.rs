//! An exclusive reference without the flag takes the entered section exclusively, so that there is no other one through that.
//@ error: E0499

use pyo3_sync::critical_section::EnteredCriticalSection;

pub fn case(mut entered: EnteredCriticalSection<'_, i32>) {
    // SAFETY: nothing is called while the references are used.
    let first = unsafe { entered.get_mut() };
    #[cfg(not(feature = "fail"))]
    {
        *first += 1;
    }
    // SAFETY: as above.
    let second = unsafe { entered.get_mut() };
    #[cfg(feature = "fail")]
    {
        *first += 1;
    }
    *second += 1;
}

//! [`BarrierExt`] for [`std::sync::Barrier`].

use std::{
    cell::OnceCell,
    sync::{Barrier, BarrierWaitResult},
};

use pyo3::Python;

use super::{detached, sealed::Sealed};

/// Meets other threads, attached and detached ones, without keeping the interpreter from them.
///
/// Among attached threads only, [`PyBarrier`](crate::PyBarrier) can be left with Ctrl-C.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::BarrierExt;
/// use std::sync::Barrier;
///
/// /// Goes on when the Rust thread has come as far.
/// fn start_together(py: Python<'_>, barrier: &Barrier) {
///     barrier.wait_attached(py);
/// }
/// # Python::initialize();
/// # let barrier = Barrier::new(2);
/// # std::thread::scope(|scope| {
/// #     scope.spawn(|| barrier.wait());
/// #     Python::attach(|py| start_together(py, &barrier));
/// # });
/// ```
pub trait BarrierExt: Sealed {
    /// [`Barrier::wait`], detached.
    fn wait_attached(&self, py: Python<'_>) -> BarrierWaitResult;
}

impl Sealed for Barrier {}

impl BarrierExt for Barrier {
    fn wait_attached(&self, py: Python<'_>) -> BarrierWaitResult {
        let met = OnceCell::new();
        detached(py, &|| {
            let _ = met.set(self.wait());
        });
        met.into_inner().expect("the thread has waited")
    }
}

//! [`BarrierExt`] for [`std::sync::Barrier`].

use std::{
    cell::OnceCell,
    sync::{Barrier, BarrierWaitResult},
};

use pyo3::Python;

use super::{detach_unchecked, sealed::Sealed};

/// Waits at a barrier from an attached thread, detaching while it blocks.
///
/// The other threads may be attached or detached. If all of them are attached, prefer
/// [`PyBarrier`](crate::PyBarrier), whose waits are interruptible by signals.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::BarrierExt;
/// use std::sync::Barrier;
///
/// /// Blocks until the Rust thread reaches the barrier.
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
    /// Waits as [`Barrier::wait`] does, detached.
    fn wait_attached(&self, py: Python<'_>) -> BarrierWaitResult;
}

impl Sealed for Barrier {}

impl BarrierExt for Barrier {
    fn wait_attached(&self, py: Python<'_>) -> BarrierWaitResult {
        let met = OnceCell::new();
        detach_unchecked(py, &|| {
            let _ = met.set(self.wait());
        });
        met.into_inner().expect("the thread has waited")
    }
}

//! The memory of a cell: its state and its value.

use std::{
    cell::UnsafeCell,
    mem::{self, MaybeUninit},
};

use super::raw::{COMPLETE_TAG, RawOnce};

/// A [`RawOnce`] and, if it is complete, a `T`.
///
/// An `impl Drop` would make the drop check reject a cell whose value refers to something that is
/// dropped first. `#[may_dangle]`, which `std` uses, is unstable. So the compiler drops the value:
/// that of an enum whose tag is a byte of the state word.
pub(super) struct Storage<T>(UnsafeCell<Slot<T>>);

/// The first byte of the state word is the tag; both variants contain the rest of it.
///
/// In memory a variant of a `repr(u8)` enum is a `repr(C)` struct that begins with the tag.
#[repr(u8)]
enum Slot<T> {
    Incomplete {
        _rest: Rest,
        _align: [RawOnce; 0],
    } = 0,
    Complete {
        _rest: Rest,
        value: T,
        _align: [RawOnce; 0],
    } = COMPLETE_TAG,
}

/// The bytes of a [`RawOnce`] but the first. Moving them keeps what they are, even a pointer's.
type Rest = [MaybeUninit<u8>; size_of::<RawOnce>() - 1];

/// The layout of a complete [`Slot`].
#[repr(C)]
struct Layout<T> {
    raw: RawOnce,
    value: T,
}

// SAFETY: threads that share the storage share the value (hence `Sync`), and one of them can write
// it for another to drop (hence `Send`). `RawOnce` is `Sync`.
unsafe impl<T: Send + Sync> Sync for Storage<T> {}

impl<T> Storage<T> {
    #[track_caller]
    pub(super) const fn new() -> Self {
        Storage(UnsafeCell::new(Slot::Incomplete {
            _rest: rest(RawOnce::new()),
            _align: [],
        }))
    }

    #[track_caller]
    pub(super) const fn completed(value: T) -> Self {
        Storage(UnsafeCell::new(Slot::Complete {
            _rest: rest(RawOnce::completed()),
            value,
            _align: [],
        }))
    }

    /// Returns the state.
    #[inline(always)]
    pub(super) fn raw(&self) -> &RawOnce {
        // SAFETY:
        // - The tag and `Rest` are the initialized bytes of a `RawOnce`, and the slot is aligned
        //   for one.
        // - In every state the first byte is a tag of `Slot`, so the slot stays valid: an id and
        //   the flags leave it 0, and `COMPLETE` sets it to `COMPLETE_TAG`.
        // - Shared references to the storage lead to these bytes only through this function.
        unsafe { &*self.0.get().cast() }
    }

    /// Returns where the value is, or goes.
    #[inline(always)]
    pub(super) fn value(&self) -> *mut T {
        const { assert!(size_of::<Layout<T>>() == size_of::<Slot<T>>()) };
        let layout = self.0.get().cast::<Layout<T>>();
        // SAFETY: the slot is as large as its layout, and no reference is made.
        unsafe { &raw mut (*layout).value }
    }

    /// Returns the value of a complete cell.
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        match self.0.get_mut() {
            Slot::Complete { value, .. } => Some(value),
            Slot::Incomplete { .. } => None,
        }
    }

    /// Consumes the storage, returning the value of a complete cell.
    pub(super) fn into_inner(self) -> Option<T> {
        match self.0.into_inner() {
            Slot::Complete { value, .. } => Some(value),
            Slot::Incomplete { .. } => None,
        }
    }
}

const fn rest(raw: RawOnce) -> Rest {
    // SAFETY: bytes that need not be initialized can be any.
    let bytes: [MaybeUninit<u8>; size_of::<RawOnce>()] = unsafe { mem::transmute(raw) };
    let [_tag, rest @ ..] = bytes;
    rest
}

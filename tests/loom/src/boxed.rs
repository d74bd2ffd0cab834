//! Boxes at addresses that loom can repeat: each takes the memory of the box of its layout that was
//! freed last, where a stale pointer is most dangerous.

use std::{
    alloc::{Layout, alloc, handle_alloc_error},
    cell::RefCell,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

thread_local! {
    static FREED: RefCell<Vec<(Layout, NonNull<u8>)>> = const { RefCell::new(Vec::new()) };
}

pub struct Box<T>(NonNull<T>);

impl<T> Box<T> {
    pub fn new(value: T) -> Self {
        let layout = Layout::new::<T>();
        assert_ne!(layout.size(), 0, "nodes have an address of their own");
        let freed = FREED.with_borrow_mut(|freed| {
            let place = freed.iter().rposition(|(other, _)| *other == layout)?;
            Some(freed.remove(place).1)
        });
        // SAFETY: the size is not 0.
        let memory = freed.or_else(|| NonNull::new(unsafe { alloc(layout) }));
        let memory = memory.unwrap_or_else(|| handle_alloc_error(layout)).cast();
        // SAFETY: the memory has the layout of a `T`, and is used for nothing else.
        unsafe { memory.write(value) };
        Box(memory)
    }

    pub fn into_raw(this: Self) -> *mut T {
        let value = this.0;
        std::mem::forget(this);
        value.as_ptr()
    }

    pub fn leak<'a>(this: Self) -> &'a mut T {
        // SAFETY: the value is never freed.
        unsafe { &mut *Box::into_raw(this) }
    }

    /// # Safety
    ///
    /// `value` is from [`into_raw`](Self::into_raw), and not used otherwise.
    pub unsafe fn from_raw(value: *mut T) -> Self {
        Box(NonNull::new(value).expect("a box is not null"))
    }
}

impl<T> Deref for Box<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the box owns the value.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Box<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns the value.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Box<T> {
    fn drop(&mut self) {
        // SAFETY: the box owns the value.
        unsafe { self.0.drop_in_place() };
        FREED.with_borrow_mut(|freed| freed.push((Layout::new::<T>(), self.0.cast())));
    }
}

//! The interpreter's own locks that a cycle can run through: those of modules that are being imported.
//!
//! A thread that imports a module holds its lock, and while the module's body runs it may come to wait for a cell
//! or a mutex, whose owner in turn may import that module. The interpreter keeps records of both halves of what
//! a walk needs: who owns which module's lock, and who waits for which. They are private to `importlib._bootstrap`, and
//! what is read here is the same in all versions from 3.9 to 3.15; should that change, such a deadlock is no longer
//! seen, and nothing else happens.
//!
//! Only attributes and built-in dictionaries are read. To call Python code would run signal handlers, whose exceptions would
//! be lost here.
//!
//! Every cycle that runs through such a lock has a thread in it that holds one and sleeps in a lock of ours. So only a
//! thread that is importing has to look, and the others sleep undisturbed.

use std::collections::HashSet;

use pyo3::{prelude::*, types::PyList};

use super::{
    ThreadId,
    graph::{self, Awaited, Link, Party, Wanted},
    interpreter::{exception_aside, loaded_module},
    threads,
};

/// Whether the calling thread is importing a module.
pub(super) fn is_importing(py: Python<'_>) -> bool {
    let Some(ident) = threads::known(ThreadId::current()).and_then(|known| known.ident) else {
        return false;
    };
    exception_aside(py, || owns_module_lock(py, ident).unwrap_or(false))
}

fn owns_module_lock(py: Python<'_>, ident: u64) -> PyResult<bool> {
    // Weak references to the locks, by the module's name. Empty unless a thread is importing.
    let locks = bootstrap(py)?.getattr("_module_locks")?;
    if locks.len()? == 0 {
        return Ok(false);
    }
    for lock in locks
        .call_method0("copy")?
        .call_method0("values")?
        .try_iter()?
    {
        let lock = lock?.call0()?;
        if !lock.is_none() && owner(&lock)? == Some(ident) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The cycle, if there is one, that `thread`, the calling one, is part of as long as it waits for `wanted`: through locks of
/// ours and of modules.
///
/// Each step is a look of its own, between which the threads may move on. So a cycle may be put together from what was never
/// true at one time.
pub(super) fn find_cycle(
    py: Python<'_>,
    thread: ThreadId,
    wanted: Wanted<'_>,
) -> Option<Vec<Link>> {
    let mut links = vec![wanted.link(thread)];
    let mut seen = HashSet::new();
    // Threads to look at, each with the number of links that lead to it.
    let at = |length: usize| move |thread: Party| (thread, length);
    let mut open: Vec<_> = wanted.holders().into_iter().map(at(1)).collect();
    while let Some((next, length)) = open.pop() {
        links.truncate(length);
        if next == Party::Known(thread) {
            return Some(links);
        }
        // A thread that was seen before led nowhere, or to a cycle that others are in.
        if !seen.insert(next) {
            continue;
        }
        if let Some((link, holders)) = wait_of(py, next) {
            links.push(link);
            open.extend(holders.into_iter().map(at(links.len())));
        }
    }
    None
}

/// What `thread` waits for, a lock of ours or of a module, and the threads that must let go of it.
fn wait_of(py: Python<'_>, thread: Party) -> Option<(Link, Vec<Party>)> {
    let ident = match thread {
        Party::Known(known) => {
            if let Some(wait) = graph::wait_of(known) {
                return Some(wait);
            }
            threads::known(known)?.ident?
        }
        // It has never slept in a lock of ours, but may import, and so be waited for.
        Party::Stranger(ident) => ident,
    };
    let (owner, module) = exception_aside(py, || lock_waited_for(py, ident).unwrap_or(None))?;
    let owner = threads::with_ident(owner).map_or(Party::Stranger(owner), Party::Known);
    let awaited = Awaited::Import { module };
    Some((Link { thread, awaited }, vec![owner]))
}

fn lock_waited_for(py: Python<'_>, ident: u64) -> PyResult<Option<(u64, String)>> {
    let blocking_on = bootstrap(py)?.getattr("_blocking_on")?;
    // A dictionary up to Python 3.11; from 3.12 on an object with a dictionary of weak references.
    let records = blocking_on.getattr_opt("data")?.unwrap_or(blocking_on);
    let waits = records.call_method1("get", (ident,))?;
    let waits = if waits.is_callable() {
        waits.call0()?
    } else {
        waits
    };
    if waits.is_none() {
        return Ok(None);
    }
    // One lock up to Python 3.11, a list from 3.12 on, whose last is what the thread waits for at this moment.
    let lock = match waits.cast_into::<PyList>() {
        Ok(locks) => match locks.len().checked_sub(1) {
            Some(last) => locks.get_item(last)?,
            None => return Ok(None),
        },
        Err(error) => error.into_inner(),
    };
    let module = lock.getattr("name")?.extract()?;
    Ok(owner(&lock)?.map(|owner| (owner, module)))
}

/// The `threading.get_ident` of the thread that owns the lock of a module.
fn owner(lock: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    match lock.getattr("owner")?.extract()? {
        // Python 3.11 and before have -1, or 0, in a lock without an owner.
        Some(owner) if owner > 0 => Ok(Some(owner as u64)),
        Some::<i128>(_) | None => Ok(None),
    }
}

/// The module is there from the interpreter's start, so that no import is needed to look at imports.
fn bootstrap(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    loaded_module(py, "_frozen_importlib")
}

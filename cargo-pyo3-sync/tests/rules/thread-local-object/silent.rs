use std::cell::RefCell;

use pyo3::prelude::*;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn path_type(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // Each thread looks it up once.
    thread_local! {
        static PATH: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
    }
    PATH.with_borrow_mut(|path| {
        if path.is_none() {
            *path = Some(py.import("pathlib")?.getattr("Path")?.unbind());
        }
        Ok(path.as_ref().unwrap().clone_ref(py))
    })
}

thread_local! {
    static FRAMES: RefCell<Vec<(u64, Py<PyAny>)>> = const { RefCell::new(Vec::new()) };
}

fn frame(py: Python<'_>, id: u64) -> PyResult<Py<PyAny>> {
    FRAMES.with(|frames| {
        let mut frames = frames.borrow_mut();
        if let Some((_, frame)) = frames.iter().find(|(known, _)| *known == id) {
            return Ok(frame.clone_ref(py));
        }
        let frame = py.import("frames")?.getattr("Frame")?.call1((id,))?.unbind();
        frames.push((id, frame.clone_ref(py)));
        Ok(frame)
    })
}

fn forget_frames() {
    let _ = FRAMES.try_with(|frames| {
        if let Ok(mut frames) = frames.try_borrow_mut() {
            frames.clear();
        }
    });
}

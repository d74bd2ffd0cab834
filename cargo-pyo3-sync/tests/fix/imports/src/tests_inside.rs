use pyo3::{sync::GILOnceCell, Python};

static A: GILOnceCell<u8> = GILOnceCell::new();

fn a(py: Python<'_>) -> Option<u8> {
    A.get(py).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyo3::sync::GILOnceCell as Cell;

    static B: Cell<u8> = Cell::new();

    #[test]
    fn both_are_empty() {
        let empty: [GILOnceCell<u8>; 2] = [GILOnceCell::new(), GILOnceCell::new()];
        Python::attach(|py| assert!(empty.iter().all(|cell| cell.get(py).is_none()) && B.get(py).is_none() && a(py).is_none()));
    }
}

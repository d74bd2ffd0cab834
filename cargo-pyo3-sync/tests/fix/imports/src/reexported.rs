pub(crate) use pyo3::sync::GILOnceCell;

pub(crate) mod inner {
    pub(crate) use super::GILOnceCell;
}

mod by_crate {
    use crate::reexported::GILOnceCell;

    pub(super) static A: GILOnceCell<u8> = GILOnceCell::new();
}

mod by_alias {
    use crate::reexported::{inner::GILOnceCell as Cell};

    pub(super) static B: Cell<u8> = Cell::new();
}

mod relative {
    pub(super) mod prelude {
        pub(crate) use pyo3::{sync::GILOnceCell, Python};
    }
    use prelude::{GILOnceCell, Python};

    pub(super) static C: GILOnceCell<u8> = GILOnceCell::new();

    pub(super) fn c(py: Python<'_>) -> Option<u8> {
        C.get(py).copied()
    }
}

mod by_glob {
    use super::*;

    pub(super) static D: GILOnceCell<u8> = GILOnceCell::new();
}

static E: self::inner::GILOnceCell<u8> = inner::GILOnceCell::new();

fn sum(py: pyo3::Python<'_>) -> Option<u8> {
    let cells = [&by_crate::A, &by_alias::B, &by_glob::D, &E];
    Some(cells.iter().filter_map(|cell| cell.get(py)).sum::<u8>() + relative::c(py)?)
}

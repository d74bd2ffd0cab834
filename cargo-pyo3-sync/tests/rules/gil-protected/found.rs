use std::cell::RefCell;

use pyo3::{prelude::*, sync::GILProtected};

static NAMES: GILProtected<RefCell<Vec<String>>> = GILProtected::new(RefCell::new(Vec::new())); //~ gil-protected

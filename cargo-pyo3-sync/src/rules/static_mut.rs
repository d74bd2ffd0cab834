//! `static mut`, which is a data race without the GIL.

use super::{Rule, guide};
use crate::{
    context::{Context, Ty},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "static-mut",
    severity: Severity::Unsound,
    title: "a `static mut`",
    page: include_str!("../../rules/static-mut.md"),
    guide: guide::STATICS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in context.index.statics.iter().filter(|item| item.mutable) {
        // CPython requires the tables of the C API to be mutable, and writes to them when it
        // creates the module.
        if is_c_table(&item.ty) {
            continue;
        }
        let help = match atomic_for(&item.ty) {
            Some(atomic) => format!(
                "`static {}: {atomic}`, changed in one step with `fetch_add` and the like",
                item.name
            ),
            None => format!(
                "`static {}: pyo3_sync::PyMutex<{}>`, and `{0}.lock_checked(py)?`; or a \
                 `PyOnceLock`, if it is set once",
                item.name, item.ty
            ),
        };
        found.push(
            Finding::new(
                item.place,
                format!(
                    "several threads can use `{}` at once, and it is not synchronised",
                    item.name
                ),
            )
            .label("a data race, which is undefined behaviour")
            .note(
                "with a GIL only one thread at a time ran code that is attached; without one all \
                 of them do",
            )
            .help(help),
        );
    }
}

fn is_c_table(ty: &Ty) -> bool {
    let is_ffi = |ty: &Ty| {
        ty.name.starts_with("pyo3::ffi::")
            || matches!(
                ty.last(),
                "PyModuleDef"
                    | "PyMethodDef"
                    | "PyType_Slot"
                    | "PyModuleDef_Slot"
                    | "PyGetSetDef"
                    | "PyMemberDef"
                    | "PyTypeObject"
            )
    };
    is_ffi(ty) || (ty.is("[]") && is_ffi(&ty.argument(0)))
}

/// The atomic for a number or flag.
pub(super) fn atomic_for(ty: &Ty) -> Option<&'static str> {
    Some(match ty.name.as_str() {
        "bool" => "AtomicBool",
        "u8" => "AtomicU8",
        "u16" => "AtomicU16",
        "u32" => "AtomicU32",
        "u64" => "AtomicU64",
        "usize" => "AtomicUsize",
        "i8" => "AtomicI8",
        "i16" => "AtomicI16",
        "i32" => "AtomicI32",
        "i64" => "AtomicI64",
        "isize" => "AtomicIsize",
        _ => return None,
    })
}

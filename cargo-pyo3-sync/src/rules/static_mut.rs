//! `static mut`: undefined behaviour that the GIL kept from being seen.

use syn::{
    BinOp, Expr,
    visit::{self, Visit},
};

use super::{Rule, guide};
use crate::{
    context::{Context, Function, FunctionId, FunctionKind, Ty},
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
        // Tables of the C interface, which CPython wants to be mutable and writes to when the module is made.
        if is_c_table(&item.ty) {
            continue;
        }
        let writes = writes(context, &item.name);
        if !writes.is_empty()
            && writes
                .iter()
                .all(|&id| initialises(&context.index.functions[id]))
        {
            continue;
        }
        let help = match atomic_for(&item.ty) {
            Some(atomic) => format!(
                "`static {}: {atomic}`, changed in one step with `fetch_add` and the like",
                item.name
            ),
            None => format!(
                "`static {}: pyo3_sync::PyMutex<{}>`, and `{0}.lock_checked(py)?`; or a `PyOnceLock`, if it is set once",
                item.name, item.ty
            ),
        };
        found.push(
            Finding::new(item.place, format!("several threads can use `{}` at once, and it is not synchronised", item.name))
                .label("a data race, which is undefined behaviour")
                .note("with a GIL only one thread at a time ran code that is attached; without one all of them do")
                .help(help),
        );
    }
}

/// Functions that run once, before anybody else comes: the module's, and those whose name says so.
fn initialises(function: &Function<'_>) -> bool {
    function.kind == FunctionKind::PyModule || function.name.to_lowercase().contains("init")
}

/// The functions that change it, or may.
fn writes(context: &Context<'_>, name: &str) -> Vec<FunctionId> {
    (0..context.index.functions.len())
        .filter(|&id| {
            let mut finder = Writes { name, found: false };
            finder.visit_block(context.index.functions[id].body);
            finder.found
        })
        .collect()
}

struct Writes<'n> {
    name: &'n str,
    found: bool,
}

impl Writes<'_> {
    fn is_it(&self, expression: &Expr) -> bool {
        match expression {
            Expr::Path(path) => path
                .path
                .segments
                .last()
                .is_some_and(|last| last.ident == self.name),
            Expr::Field(field) => self.is_it(&field.base),
            Expr::Index(index) => self.is_it(&index.expr),
            Expr::Unary(unary) => self.is_it(&unary.expr),
            Expr::Paren(inner) => self.is_it(&inner.expr),
            Expr::MethodCall(call) => self.is_it(&call.receiver),
            _ => false,
        }
    }
}

impl<'ast> Visit<'ast> for Writes<'_> {
    fn visit_expr_assign(&mut self, assign: &'ast syn::ExprAssign) {
        self.found |= self.is_it(&assign.left);
        visit::visit_expr_assign(self, assign);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let plain = matches!(
            binary.op,
            BinOp::Add(_)
                | BinOp::Sub(_)
                | BinOp::Mul(_)
                | BinOp::Div(_)
                | BinOp::Rem(_)
                | BinOp::And(_)
                | BinOp::Or(_)
                | BinOp::BitXor(_)
                | BinOp::BitAnd(_)
                | BinOp::BitOr(_)
                | BinOp::Shl(_)
                | BinOp::Shr(_)
                | BinOp::Eq(_)
                | BinOp::Lt(_)
                | BinOp::Le(_)
                | BinOp::Ne(_)
                | BinOp::Ge(_)
                | BinOp::Gt(_)
        );
        self.found |= !plain && self.is_it(&binary.left);
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_reference(&mut self, reference: &'ast syn::ExprReference) {
        self.found |= reference.mutability.is_some() && self.is_it(&reference.expr);
        visit::visit_expr_reference(self, reference);
    }

    fn visit_expr_raw_addr(&mut self, address: &'ast syn::ExprRawAddr) {
        self.found |= matches!(address.mutability, syn::PointerMutability::Mut(_))
            && self.is_it(&address.expr);
        visit::visit_expr_raw_addr(self, address);
    }

    /// A method may change it, but for those that only read, or synchronise by themselves.
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let reads = matches!(
            call.method.to_string().as_str(),
            "get_or_init"
                | "get_or_try_init"
                | "load"
                | "store"
                | "swap"
                | "fetch_add"
                | "fetch_sub"
                | "lock"
                | "is_null"
                | "is_some"
                | "is_none"
                | "as_ref"
                | "as_ptr"
                | "clone"
                | "unwrap"
                | "expect"
                | "get"
                | "len"
                | "is_empty"
                | "cast"
                | "add"
        );
        self.found |= !reads && self.is_it(&call.receiver);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let mutable = mac
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "addr_of_mut");
        self.found |= mutable && mac.tokens.to_string().ends_with(self.name);
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

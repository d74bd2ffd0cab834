//! Divergence of branches.
//!
//! Guards that are alive at the end of a diverging branch are not alive after it.

use syn::{Expr, Stmt};

/// Returns `true` if the last statement of a block is `return`, `break`, `continue` or a panic.
pub(super) fn diverges(block: &syn::Block) -> bool {
    match block.stmts.last() {
        Some(Stmt::Expr(last, _)) => expression_diverges(last),
        Some(Stmt::Macro(last)) => is_panic(&last.mac),
        _ => false,
    }
}

pub(super) fn expression_diverges(expression: &Expr) -> bool {
    match expression {
        Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) => true,
        Expr::Block(block) => diverges(&block.block),
        Expr::Macro(inner) => is_panic(&inner.mac),
        Expr::If(branch) => {
            diverges(&branch.then_branch)
                && branch
                    .else_branch
                    .as_ref()
                    .is_some_and(|(_, other)| expression_diverges(other))
        }
        _ => false,
    }
}

pub(crate) fn is_panic(mac: &syn::Macro) -> bool {
    mac.path.segments.last().is_some_and(|last| {
        matches!(
            last.ident.to_string().as_str(),
            "panic" | "unreachable" | "todo" | "unimplemented" | "bail"
        )
    })
}

//! Source text of expressions, for messages and comparison.

use syn::Expr;

/// Returns the source text of a short expression, enough to identify it.
pub fn text(expression: &Expr) -> String {
    match expression {
        Expr::Path(path) => {
            let names: Vec<String> = path
                .path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            names.join("::")
        }
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => format!("{}.{name}", text(&field.base)),
            syn::Member::Unnamed(index) => format!("{}.{}", text(&field.base), index.index),
        },
        Expr::Reference(inner) => text(&inner.expr),
        Expr::Paren(inner) => text(&inner.expr),
        Expr::Unary(inner) => text(&inner.expr),
        Expr::Try(inner) => text(&inner.expr),
        Expr::MethodCall(call) => format!("{}.{}(..)", text(&call.receiver), call.method),
        Expr::Call(call) => format!("{}(..)", text(&call.func)),
        Expr::Index(index) => format!("{}[..]", text(&index.expr)),
        _ => "..".to_owned(),
    }
}

//! Calls that acquire a lock unaware of the interpreter, and the identity of the lock.

use syn::{Expr, Token, punctuated::Punctuated};

use super::{Lock, Mode, Walker, text::text};
use crate::context::{FunctionId, names::Ty};

/// The identity of a lock, if known.
#[derive(Clone, Default)]
pub(super) struct Identity {
    /// `Type.field` or `STATIC`. Acquisitions with the same identity may be of the same lock.
    pub(super) lock: Option<String>,
    /// The expression before the field: `self`, `other`.
    instance: Option<String>,
}

impl Walker<'_, '_> {
    pub(super) fn identity(&self, expression: &Expr) -> Identity {
        match expression {
            Expr::Field(field) => {
                let base = self.type_of(&field.base);
                let name = match &field.member {
                    syn::Member::Named(name) => name.to_string(),
                    syn::Member::Unnamed(index) => index.index.to_string(),
                };
                Identity {
                    lock: base.peeled().local().map(|owner| format!("{owner}.{name}")),
                    instance: Some(text(&field.base)),
                }
            }
            Expr::Path(path) => {
                let Some(last) = path.path.segments.last() else {
                    return Identity::default();
                };
                let name = last.ident.to_string();
                let is_local = self.is_variable(expression);
                if let Some(known) = self.locks.get(&name).filter(|_| is_local) {
                    return known.clone();
                }
                let is_static = !is_local && self.index.static_named(&name, self.file).is_some();
                Identity {
                    lock: is_static.then_some(name),
                    instance: None,
                }
            }
            Expr::Reference(inner) => self.identity(&inner.expr),
            Expr::Paren(inner) => self.identity(&inner.expr),
            Expr::Unary(inner) => self.identity(&inner.expr),
            Expr::MethodCall(call) if call.args.is_empty() => self.identity(&call.receiver),
            // `Arc::clone(&lock)`.
            Expr::Call(call) if call.args.len() == 1 && text(&call.func).ends_with("::clone") => {
                self.identity(&call.args[0])
            }
            _ => Identity::default(),
        }
    }

    /// Returns the lock that a method call acquires.
    pub(super) fn lock_taken(
        &self,
        call: &syn::ExprMethodCall,
        receiver: &Ty,
        unwrapped: bool,
    ) -> Option<Lock> {
        let method = call.method.to_string();
        let (mode, aware) = match method.as_str() {
            "lock" | "lock_arc" => (Mode::Lock, false),
            "read" | "read_arc" | "upgradable_read" | "read_recursive" => (Mode::Read, false),
            "write" | "write_arc" => (Mode::Write, false),
            "try_lock" | "try_lock_for" | "try_lock_until" => (Mode::Lock, true),
            "try_read" | "try_read_for" => (Mode::Read, true),
            "try_write" | "try_write_for" => (Mode::Write, true),
            "lock_py_attached" | "lock_attached" => (Mode::Lock, true),
            "read_py_attached" | "read_attached" => (Mode::Read, true),
            "write_py_attached" | "write_attached" => (Mode::Write, true),
            "blocking_lock" => (Mode::Lock, false),
            "blocking_read" => (Mode::Read, false),
            "blocking_write" => (Mode::Write, false),
            _ => return None,
        };
        let peeled = receiver.peeled();
        let known = matches!(
            (peeled.name.as_str(), mode),
            (
                "std::Mutex"
                    | "parking_lot::Mutex"
                    | "parking_lot::FairMutex"
                    | "parking_lot::ReentrantMutex",
                Mode::Lock
            ) | (
                "std::RwLock" | "parking_lot::RwLock",
                Mode::Read | Mode::Write
            )
        );
        let is_tokio = peeled.name.starts_with("tokio::") && method.starts_with("blocking_");
        // For an unknown type, `.lock().unwrap()` without arguments is a mutex of `std`.
        let looks_like_it = peeled.is_unknown() && call.args.is_empty() && unwrapped && !aware;
        if !known && !is_tokio && !looks_like_it {
            return None;
        }
        let identity = self.identity(&call.receiver);
        Some(Lock {
            ty: peeled.name.clone(),
            mode,
            identity: identity.lock,
            instance: identity.instance,
            never_waits_attached: aware,
            content: peeled.argument(0),
        })
    }

    /// Returns the lock that a function of the crate acquires, if it returns a guard.
    ///
    /// Each such method of an object has one lock. Other functions lock their first argument, as an
    /// approximation.
    pub(super) fn lock_taken_within(
        &self,
        id: FunctionId,
        receiver: Option<&Expr>,
        arguments: &Punctuated<Expr, Token![,]>,
    ) -> Option<Lock> {
        let function = &self.index.functions[id];
        let mut output = &function.output;
        while matches!(output.name.as_str(), "std::Result" | "std::Option") {
            output = output.arguments.first()?;
        }
        let (mode, kind) = match output.name.as_str() {
            "std::MutexGuard"
            | "parking_lot::MutexGuard"
            | "std::MappedMutexGuard"
            | "parking_lot::MappedMutexGuard" => (Mode::Lock, "Mutex"),
            "std::RwLockReadGuard" | "parking_lot::RwLockReadGuard" => (Mode::Read, "RwLock"),
            "std::RwLockWriteGuard" | "parking_lot::RwLockWriteGuard" => (Mode::Write, "RwLock"),
            _ => return None,
        };
        let root = output.name.split("::").next().unwrap_or_default();
        let identity = match receiver {
            // A lock of the crate, in a field or a static.
            Some(receiver) if self.identity(receiver).lock.is_some() => self.identity(receiver),
            Some(receiver) => {
                let owner = function.self_type.clone().unwrap_or_default();
                Identity {
                    lock: Some(format!("{owner}.{}()", function.name)),
                    instance: Some(text(receiver)),
                }
            }
            None => arguments
                .first()
                .map_or_else(Identity::default, |first| self.identity(first)),
        };
        Some(Lock {
            ty: format!("{root}::{kind}"),
            mode,
            identity: identity.lock,
            instance: identity.instance,
            never_waits_attached: function.has_token,
            content: output.argument(0),
        })
    }
}

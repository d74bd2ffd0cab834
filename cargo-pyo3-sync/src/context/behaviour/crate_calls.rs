//! Calls within the crate: what the function does is in its own body, and here it is only where it is called, with which guards alive.

use proc_macro2::Span;
use syn::{Expr, Token, punctuated::Punctuated, visit::Visit};

use super::{Operation, State, Walker};
use crate::context::FunctionId;

pub(super) struct CrateCall<'e> {
    pub(super) function: FunctionId,
    pub(super) receiver: Option<&'e Expr>,
    pub(super) arguments: &'e Punctuated<Expr, Token![,]>,
    /// What is pointed at as the call.
    pub(super) callee: Span,
    /// What is pointed at as taking a lock, if the function gives a guard.
    pub(super) acquisition: Span,
    pub(super) address: usize,
}

impl Walker<'_, '_> {
    /// A future of the crate runs where it is awaited, which is not known.
    pub(super) fn call_of_crate(&mut self, call: &CrateCall<'_>, awaited: bool) {
        let detaches = self.detaching.contains(&call.function);
        let mut moved = Vec::new();
        for argument in call.arguments {
            if detaches && matches!(argument, Expr::Closure(_)) {
                self.emit(Operation::Detach, call.callee);
                self.in_state(State::Detached, |walker| walker.callable(argument, &[]));
            } else {
                self.visit_expr(argument);
                moved.extend(self.variable_guard(argument));
            }
        }
        if !awaited {
            self.emit(Operation::Call(call.function), call.callee);
        }
        self.release_variables(&moved);
        if let Some(lock) = self.lock_taken_within(call.function, call.receiver, call.arguments) {
            self.acquire(lock, call.acquisition, call.address);
        }
    }
}

//! Calls within the crate.
//!
//! The body of the callee contains its events. The caller records the call and the live guards.

use proc_macro2::Span;
use syn::{Expr, Token, punctuated::Punctuated, visit::Visit};

use super::{Operation, State, Walker};
use crate::context::FunctionId;

pub(super) struct CrateCall<'e> {
    pub(super) function: FunctionId,
    pub(super) receiver: Option<&'e Expr>,
    pub(super) arguments: &'e Punctuated<Expr, Token![,]>,
    /// The span of the call in findings.
    pub(super) callee: Span,
    /// The span of the acquisition in findings, if the function returns a guard.
    pub(super) acquisition: Span,
    pub(super) address: usize,
}

impl Walker<'_, '_> {
    /// Walks a call. An awaited future of the crate runs at an unknown place.
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

//! Classes that nothing borrows mutably, which `fix` makes `frozen`, and others, which it must leave alone: if it does not, PyO3's
//! bounds see to it that this does not compile.

#![allow(dead_code)]

mod borrowed;
mod never_borrowed;

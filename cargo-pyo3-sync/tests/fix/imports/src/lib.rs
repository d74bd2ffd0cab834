//! `GILOnceCell`, in all the ways in which a name can be brought in and written. A module for each.

#![allow(dead_code)]

mod absolute;
mod alias;
mod alone;
mod conditional;
mod functions;
mod glob;
mod list;
mod macros;
mod modules;
mod nested;
mod precise_capturing;
mod reexported;
mod renamed_modules;
mod several;
mod tests_inside;
mod top_group;

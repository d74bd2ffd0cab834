//! A class around a parser that is not `Send`. PyO3 takes it as `unsendable`, and then panics in every thread but the one that made the
//! object.

#[path = "grammar.rs"]
mod grammar;

use pyo3::{exceptions::PyValueError, prelude::*};

#[pyclass(unsendable)]
struct Parser(grammar::Parser);

#[pymethods]
impl Parser {
    #[new]
    fn new() -> Self {
        Parser(grammar::Parser::new())
    }

    fn define(&mut self, name: &str, value: i64) {
        self.0.define(name, value);
    }

    fn parse(&mut self, sum: &str) -> PyResult<i64> {
        let value = self.0.parse(sum);
        value.map_err(|word| PyValueError::new_err(format!("neither number nor name: {word}")))
    }
}

#[pymodule(gil_used = false)]
mod parser_before {
    #[pymodule_export]
    use super::Parser;
}

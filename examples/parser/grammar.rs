//! Stands for a library that knows nothing of threads: a parser of sums whose parts share a table of names by `Rc`.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

type Names = Rc<RefCell<HashMap<String, i64>>>;

pub(crate) struct Parser {
    names: Names,
    /// Also looks names up.
    evaluator: Evaluator,
}

struct Evaluator {
    names: Names,
}

impl Parser {
    pub(crate) fn new() -> Self {
        let names = Names::default();
        let evaluator = Evaluator {
            names: Rc::clone(&names),
        };
        Parser { names, evaluator }
    }

    pub(crate) fn define(&mut self, name: &str, value: i64) {
        self.names.borrow_mut().insert(name.to_owned(), value);
    }

    /// The value of a sum of numbers and names, `1 + two + 3`; the word that is neither, if there is one.
    pub(crate) fn parse(&mut self, sum: &str) -> Result<i64, String> {
        let mut words = sum.split('+').map(str::trim);
        words.try_fold(0, |total, word| Ok(total + self.evaluator.value(word)?))
    }
}

impl Evaluator {
    fn value(&self, word: &str) -> Result<i64, String> {
        let number = word.parse().ok();
        let value = number.or_else(|| self.names.borrow().get(word).copied());
        value.ok_or_else(|| word.to_owned())
    }
}

//! Collecting what fails, so that one run shows all of it.

use std::fmt::Display;

/// Cases run and failures found.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failures: Vec<String>,
}

impl Report {
    /// A report of nothing yet.
    pub fn new() -> Report {
        Report::default()
    }

    /// Notes a case.
    pub fn case(&mut self, id: impl Display, outcome: Result<(), impl Display>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!("{id}: {why}")),
        }
    }

    /// Notes a case that is right if `ok`.
    pub fn expect(&mut self, id: impl Display, ok: bool, why: impl FnOnce() -> String) {
        self.case(id, if ok { Ok(()) } else { Err(why()) });
    }

    /// Failures noted so far.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Ends the test.
    ///
    /// # Panics
    /// If a case failed, with all that did.
    #[track_caller]
    pub fn finish(self) {
        println!("{} cases passed", self.passed);
        assert!(self.passed + self.failures.len() > 0, "no case was run");
        let (bad, all) = (self.failures.len(), self.passed + self.failures.len());
        assert!(bad == 0, "{bad} of {all} cases failed:\n{}", self.failures.join("\n"));
    }
}

//! Counts of what `cargo test` ran, read from its `test result:` lines.

use std::fmt;

/// Tests by outcome, over all test programs of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Takes one line of output into account; any line but a `test result:` line changes nothing.
    pub(crate) fn count(&mut self, line: &str) {
        // A test that prints without a newline may leave its words in front.
        let Some((_, result)) = line.split_once("test result: ") else { return };
        let Some((_, counts)) = result.split_once(". ") else { return };
        self.programs += 1;
        for part in counts.split("; ") {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// True when no test ran at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, passed, failed, ignored } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {programs} test programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.count(line));
        tally
    }

    #[test]
    fn result_lines_of_all_programs_are_added_up() {
        let tally = counted(
            "running 3 tests\ntest a ... ok\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.50s\n",
        );
        assert_eq!(tally, Tally { programs: 2, passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(counted("test passed ... ok\ntest result: \n9 passed; 1 failed\n"), Tally::default());
    }
}

//! Adds up what the test binaries print, for the one line that CI reads.

use std::fmt;

/// What all test binaries of a run said together.
#[derive(Default, Debug, PartialEq)]
pub struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    binaries: u64,
    failed_names: Vec<String>,
}

impl Totals {
    /// Takes one line of `cargo test`'s output; lines that say nothing of results change nothing.
    pub fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.binaries += 1;
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
            self.ignored += number_before(counts, " ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed_names.push(name.to_owned());
        }
    }

    /// Whether any test binary came as far as its result.
    pub fn any(&self) -> bool {
        self.binaries > 0
    }

    /// How many tests were left out by `#[ignore]`.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The tests that failed, in the order in which they did.
    pub fn failed_names(&self) -> &[String] {
        &self.failed_names
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], want: &str) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.read(line));
        assert_eq!(totals.to_string(), want);
        totals
    }

    #[test]
    fn binaries_are_summed() {
        let totals = check(
            &[
                "running 13 tests",
                "test a::b ... ok",
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s",
                "test c::d ... FAILED",
                "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            ],
            "15 passed, 1 failed",
        );
        assert!(totals.any());
        assert_eq!(totals.ignored(), 1);
        assert_eq!(totals.failed_names(), ["c::d"]);
    }

    #[test]
    fn other_output_counts_for_nothing() {
        let totals =
            check(&["7 passed, 7 failed", "a test result: 9 passed"], "0 passed, 0 failed");
        assert!(!totals.any());
    }
}

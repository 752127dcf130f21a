//! Medians with their ranges, ratios pair by pair, and the section of a document that they stand in.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::spread;
use crate::page;

/// What was measured of one of those that are compared, round by round.
pub struct Series {
    /// What it is.
    pub name: String,
    /// One value a round.
    pub values: Vec<f64>,
    /// What the rounds took together.
    pub seconds: Duration,
}

impl Series {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), values: Vec::new(), seconds: Duration::ZERO }
    }
}

/// What is compared; the first is what the others are compared with.
pub struct Table {
    /// As the page knows it.
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// What it was measured with, beside Tertulia.
    pub with: String,
    pub in_flight: String,
    pub series: Vec<Series>,
}

impl Table {
    /// With a line that says what it is of.
    pub fn on_the_page(&self, origin: impl Fn(String) -> String) -> page::Table {
        let rounds = self.series.first().map_or(0, |series| series.values.len());
        let (with, in_flight) = (&self.with, &self.in_flight);
        let origin = origin(format!("{with}; rounds: {rounds}; **{in_flight}**"));
        let text = format!("### {}\n\n{origin}\n\n{}", self.title, self.markdown());
        page::Table { name: self.name.to_owned(), text }
    }

    fn markdown(&self) -> String {
        let mut out = format!("| | {} | beside the first, round by round | in all |\n", self.unit);
        out.push_str("|---|---|---|---|\n");
        let Some(first) = self.series.first() else { return out };
        for series in &self.series {
            let pairs = series.values.iter().zip(&first.values);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.0} s |",
                series.name,
                spread(series.values.iter().copied()),
                spread(pairs.map(|(own, first)| own / first)),
                series.seconds.as_secs_f64()
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let series =
            |name: &str, values: &[f64]| Series { values: values.to_vec(), ..Series::new(name) };
        let table = Table {
            name: "n",
            title: "t",
            unit: "µs",
            with: "w".to_owned(),
            in_flight: "1 at once".to_owned(),
            series: vec![series("a", &[1.0, 10.0, 2.0]), series("b", &[2.0, 20.0, 6.0])],
        };
        let text = table.on_the_page(|more| format!("of: {more}")).text;
        assert!(text.contains("| b | 6.00 (2.00 to 20.0) | 2.00 (2.00 to 3.00) |"), "{text}");
        assert!(text.contains("of: w; rounds: 3; **1 at once**"), "{text}");
    }
}

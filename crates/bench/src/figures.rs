//! Figures as the page shows them, and the machine that they are of.

/// A median, and the least and the most.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// Of values in any order; not a number where there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    Spread { median: at(values.len() / 2), least: at(0), most: at(last) }
}

impl std::fmt::Display for Spread {
    /// As in tables: the median, and from where to where.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", short(self.median), short(self.least), short(self.most))
    }
}

/// Three figures that matter.
pub fn short(value: f64) -> String {
    match value.abs() {
        value if value.is_nan() => "-".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Whole, with commas.
pub fn thousands(value: f64) -> String {
    let (digits, mut out) = (format!("{value:.0}"), String::new());
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What all of it was measured on.
pub fn machine() -> String {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
    };
    let model = first("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unnamed CPU".to_owned());
    let kib = first("/proc/meminfo", "MemTotal")
        .and_then(|kb| kb.trim_end_matches(" kB").parse::<f64>().ok());
    let memory =
        kib.map_or("unknown".to_owned(), |kib| format!("{:.1} GiB", kib / f64::from(1 << 20)));
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the version is whoever's who built it.
    let system = system.trim().split('-').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, {memory}, Linux {system}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_with_its_range() {
        assert_eq!(spread([3.0, 1.0, 200.0]).to_string(), "3.00 (1.00 to 200)");
        assert_eq!(spread([]).to_string(), "- (- to -)");
    }
}

//! Figures as the page shows them, and the machine that they are of.

/// A median, and the least and the most.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// Of values in any order; not a number where there are none.
pub fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    Spread { median: at(values.len() / 2), least: at(0), most: at(last) }
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
    let model = first("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = first("/proc/meminfo", "MemTotal").unwrap_or_else(|| "unknown".to_owned());
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, {memory}, Linux {}", system.trim())
}

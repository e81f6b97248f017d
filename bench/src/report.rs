//! The form of every benchmark's results.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

/// What was measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    rows: Vec<Row>,
}

/// One figure. Without a peer a bar is met by a value at or below it; with one, by a ratio at or above it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    bar: Option<f64>,
    met: Option<bool>,
    peer: Option<String>,
    ratio: Option<f64>,
}

impl Row {
    pub(crate) fn plain(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, bar: None, met: None, peer: None, ratio: None }
    }

    pub(crate) fn with_bar(name: &'static str, value: f64, unit: &'static str, most: f64) -> Self {
        Self { bar: Some(most), met: Some(value <= most), ..Self::plain(name, value, unit) }
    }

    /// A figure beside a peer's of the same run; `ratio` is how many times as fast as the peer this is.
    pub(crate) fn beside_peer(
        name: &'static str,
        value: f64,
        unit: &'static str,
        peer: String,
        ratio: f64,
        least: f64,
    ) -> Self {
        let met = Some(least <= ratio);
        Self {
            bar: Some(least),
            met,
            peer: Some(peer),
            ratio: Some(ratio),
            ..Self::plain(name, value, unit)
        }
    }
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { machine: machine(), rows }
    }

    pub(crate) fn write(&self, name: &str) -> anyhow::Result<()> {
        let folder = Path::new("target/bench");
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{name}.json"));
        std::fs::write(path, serde_json::to_string_pretty(self)?)?;
        Ok(())
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", self.machine)?;
        for row in &self.rows {
            let met = if row.met == Some(true) { "met" } else { "NOT met" };
            let bar = match (row.bar, row.ratio, &row.peer) {
                (Some(bar), Some(ratio), Some(peer)) => {
                    format!("{ratio:.2} times {peer}; bar {bar}: {met}")
                }
                (Some(bar), _, _) => format!("bar {bar} {}: {met}", row.unit),
                (None, _, _) => String::new(),
            };
            writeln!(out, "{:<45} {:>10.2} {:<11} {bar}", row.name, row.value, row.unit)?;
        }
        Ok(())
    }
}

/// The middle value; the mean of the two middle ones for an even count.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The smallest value that at least `percent` of the values do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{}, {cores} cores, {} of memory, debug profile",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_values_that_were_measured() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 95), 19.0);
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}

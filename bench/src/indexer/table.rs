//! The measured figures beside their bars.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

/// What was measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    machine: String,
    rows: Vec<Row>,
}

/// One figure; without a value it is open, because what it needs is not on this machine. `bar` is met at or above
/// it, or at or below it, as `bar_is` says.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: Cow<'static, str>,
    value: Option<f64>,
    unit: &'static str,
    bar: Option<f64>,
    bar_is: Option<&'static str>,
    met: Option<bool>,
    peer: Option<String>,
    ratio: Option<f64>,
}

impl Row {
    pub(crate) fn plain(
        name: impl Into<Cow<'static, str>>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        let name = name.into();
        let value = Some(value);
        Self { name, value, unit, bar: None, bar_is: None, met: None, peer: None, ratio: None }
    }

    pub(crate) fn at_least(
        name: impl Into<Cow<'static, str>>,
        value: f64,
        unit: &'static str,
        bar: f64,
    ) -> Self {
        let (bar_is, met) = (Some("at least"), Some(bar <= value));
        Self {
            bar: Some(bar),
            bar_is,
            met,
            ratio: Some(value / bar),
            ..Self::plain(name, value, unit)
        }
    }

    pub(crate) fn at_most(
        name: impl Into<Cow<'static, str>>,
        value: f64,
        unit: &'static str,
        bar: f64,
    ) -> Self {
        let (bar_is, met) = (Some("at most"), Some(value <= bar));
        Self {
            bar: Some(bar),
            bar_is,
            met,
            ratio: Some(value / bar),
            ..Self::plain(name, value, unit)
        }
    }
}

impl Row {
    /// The same figure, not measured.
    #[allow(dead_code, reason = "benches of what every machine has leave nothing open")]
    pub(crate) fn open(self) -> Self {
        Self { value: None, met: None, ratio: None, ..self }
    }

    /// The same figure, where no bar applies.
    #[allow(dead_code, reason = "benches that are always run in full have no such row")]
    pub(crate) fn without_bar(self) -> Self {
        Self { bar: None, bar_is: None, met: None, ratio: None, ..self }
    }

    fn line(&self) -> String {
        let Self { name, value, unit, bar, bar_is, met, .. } = self;
        let Some(value) = value else { return format!("{name:<52} {:>12} {unit:<11}", "open") };
        let verdict = match (bar, bar_is, met) {
            (Some(bar), Some(bar_is), Some(true)) => format!("{bar_is} {bar}: met"),
            (Some(bar), Some(bar_is), _) => format!("{bar_is} {bar}: NOT met"),
            _ => String::new(),
        };
        format!("{name:<52} {value:>12.2} {unit:<11} {verdict}")
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { machine: machine(), rows: Vec::new() }
    }
}

impl Table {
    /// A table of what was measured on `device`, a part of this machine.
    #[allow(dead_code, reason = "benches of the whole machine have no device")]
    pub(crate) fn of(device: &str) -> Self {
        Self { machine: format!("{device}; {}", machine()), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Row) {
        // Shown at once, because a run takes minutes and its later parts may fail.
        let _ = writeln!(std::io::stderr(), "{}", row.line());
        self.rows.push(row);
    }

    pub(crate) fn write(&self, name: &str) -> anyhow::Result<()> {
        let folder = Path::new("target/bench");
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(self)?)?;
        Ok(())
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", self.machine)?;
        for row in &self.rows {
            writeln!(out, "{}", row.line())?;
        }
        Ok(())
    }
}

/// The machine and what else it was doing: a figure means little without it.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned();
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    format!(
        "{}, {cores} cores, {} of memory, load {load} at the start, {profile} profile",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
    )
}

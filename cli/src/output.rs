//! What commands print: a table or sentences for people, one JSON document for machines.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// What takes longer than this is told how long it took.
const STEP_NOTICE: Duration = Duration::from_secs(2);

/// Width of tables that go to a file or a pipe: two hashes of 66 characters fit beside each other.
const PAGE_COLUMNS: u16 = 160;

/// Where a command's results go. Results are on standard output, everything else on standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a command's result: `value` for machines, what `people` makes of it otherwise.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { people(value) };
        // A reader that closes the pipe early, such as `head`, is not an error.
        match writeln!(io::stdout(), "{text}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A line of narration for people; silent for machines.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if !self.json {
            // Nothing sensible is left to do when standard error is closed.
            let _ = writeln!(io::stderr(), "{}", line.as_ref());
        }
    }

    /// Says what begins now and lasts until the value is dropped: with a running clock on a terminal, and elsewhere with the
    /// time that it took if that was long.
    pub(crate) fn step(self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = (!self.json && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            self.say(&what);
        }
        Step { output: self, what, started: Instant::now(), bar }
    }

    /// Prints why a command failed, with everything that led to it.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let text = if self.json {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            serde_json::json!({"error": {"message": error.to_string(), "causes": causes}})
                .to_string()
        } else {
            format!("error: {error:#}")
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Something that is being done.
#[derive(Debug)]
pub(crate) struct Step {
    output: Output,
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Drop for Step {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                self.output.say(format!("{} ({:.1} s)", self.what, took.as_secs_f64()));
            }
            None if STEP_NOTICE < took => {
                self.output.say(format!("  that took {:.1} s", took.as_secs_f64()));
            }
            None => {}
        }
    }
}

/// A table with a heading row that fits the terminal.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = fitting();
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A two-column table of names and values.
pub(crate) fn fields<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = fitting();
    for (name, value) in rows {
        table.add_row([name, &value]);
    }
    table.to_string()
}

/// An empty table that wraps its cells to the terminal's width, or to a page's where there is no terminal.
fn fitting() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !io::stdout().is_terminal() {
        table.set_width(PAGE_COLUMNS);
    }
    table
}

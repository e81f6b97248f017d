//! Says what is being installed and how far it is: a bar on a terminal, lines elsewhere. All of it goes to
//! standard error, since standard output belongs to the command's result.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Bars,
    Lines,
    Silent,
}

impl Progress {
    /// Bars if standard error is a terminal, otherwise lines.
    pub fn auto() -> Progress {
        if std::io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    /// One sentence.
    pub(super) fn say(self, sentence: &str) {
        match self {
            Self::Bars | Self::Lines => eprintln!("{sentence}"),
            Self::Silent => {}
        }
    }

    pub(super) fn begin(self, title: &'static str, download_bytes: u64, work_bytes: u64) -> Step {
        let size = HumanBytes(download_bytes);
        let bar = match self {
            Self::Bars => {
                let template = "{msg} {wide_bar} {percent:>3} % {elapsed}";
                let style = ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = ProgressBar::new(work_bytes).with_style(style);
                bar.set_message(format!("Installing {title} ({size} to download)"));
                bar.enable_steady_tick(Duration::from_millis(200));
                Some(bar)
            }
            Self::Lines | Self::Silent => None,
        };
        if self == Self::Lines {
            eprintln!("Installing {title} ({size} to download) ...");
        }
        Step { progress: self, title, started: Instant::now(), work_bytes, bar }
    }
}

/// One installation that is under way.
#[derive(Debug)]
pub(super) struct Step {
    progress: Progress,
    title: &'static str,
    started: Instant,
    work_bytes: u64,
    bar: Option<ProgressBar>,
}

impl Step {
    pub(super) fn at(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            // Installers delete what they have unpacked; a bar that goes back would only confuse.
            bar.set_position(bytes.min(self.work_bytes).max(bar.position()));
        }
    }

    pub(super) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f32();
        self.progress.say(&format!("Installed {} in {seconds:.1} s.", self.title));
    }
}

/// A bar that was not finished belongs to an installation that failed; the error follows below it.
impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

//! The whole terminal for a live view: its other screen without a cursor, and keys as they are pressed. However the view
//! ends, also with a panic, the terminal is as it was before.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use unicode_width::UnicodeWidthChar;

const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

/// Columns and rows of a terminal that does not know its size.
const SIZE_UNKNOWN: (usize, usize) = (80, 24);

/// What Ctrl-C types while it does not interrupt.
const CONTROL_C: u8 = 3;

/// The terminal as it is to be given back; `None` when nothing is to be.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    /// How keys were read; `None` when standard input is no terminal.
    keys: Option<Termios>,
}

/// An open view. Dropping it gives the terminal back.
#[derive(Debug)]
pub(crate) struct Screen {
    keys: Option<tokio::io::Stdin>,
    resized: Signal,
}

/// What the person at the terminal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Pressed q or Ctrl-C, or closed the terminal.
    Leave,
    /// Made the terminal larger or smaller.
    Resize,
}

impl Screen {
    pub(crate) fn open() -> anyhow::Result<Self> {
        if !stdout().is_terminal() {
            bail!("--watch: standard output is not a terminal; leave --watch out");
        }
        let resized = signal(SignalKind::window_change())?;
        let keys = stdin().is_terminal().then(tokio::io::stdin);
        let modes = match &keys {
            Some(_) => Some(tcgetattr(stdin()).context("read the terminal's modes")?),
            None => None,
        };
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Before { keys: modes.clone() });
        // From here on, dropping it gives everything back.
        let screen = Self { keys, resized };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // First, so that what the panic says is not lost with the other screen.
            restore();
            hook(panic);
        }));
        if let Some(mut modes) = modes {
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &modes)
                .context("have keys read as they are pressed")?;
        }
        let mut out = stdout().lock();
        out.write_all(OPEN.as_bytes())?;
        out.flush()?;
        Ok(screen)
    }

    /// Draws a text from the upper left corner, as much of it as there is room for.
    pub(crate) fn draw(&self, text: &str) -> anyhow::Result<()> {
        if BEFORE.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            bail!("a part of this program panicked");
        }
        let size = tcgetwinsize(stdout()).map(|size| (size.ws_col.into(), size.ws_row.into()));
        let (columns, rows) = match size {
            Ok((0, _) | (_, 0)) | Err(_) => SIZE_UNKNOWN,
            Ok(size) => size,
        };
        let mut out = stdout().lock();
        out.write_all(picture(text, columns, rows).as_bytes())?;
        Ok(out.flush()?)
    }

    /// Waits until the person at the terminal does something that matters.
    pub(crate) async fn act(&mut self) -> Act {
        let Self { keys, resized } = self;
        let pressed = async {
            let Some(keys) = keys else { return std::future::pending().await };
            let mut pressed = [0; 64];
            loop {
                match keys.read(&mut pressed).await {
                    // The terminal is gone.
                    Ok(0) | Err(_) => return,
                    Ok(count) if pressed[..count].iter().any(|key| leaves(*key)) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            () = pressed => Act::Leave,
            _ = resized.recv() => Act::Resize,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    // A terminal that is gone needs nothing back.
    let mut out = stdout().lock();
    let _ = out.write_all(CLOSE.as_bytes());
    let _ = out.flush();
    if let Some(modes) = before.keys {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    }
}

fn leaves(key: u8) -> bool {
    matches!(key, b'q' | b'Q' | CONTROL_C)
}

/// What to send to the terminal. Nothing is cleared before it is written over, so that nothing flickers; nothing is written
/// beyond the edges, so that nothing wraps or scrolls; and no control character of the text gets through.
fn picture(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut picture = String::from("\x1b[H");
    for (index, line) in lines.iter().take(rows).enumerate() {
        let more_below = index + 1 == rows && rows < lines.len();
        let line = if more_below { "…" } else { line };
        if 0 < index {
            picture.push_str("\r\n");
        }
        let mut width = 0;
        for character in line.chars() {
            let character = if character.is_control() { ' ' } else { character };
            let next = width + character.width().unwrap_or_default();
            if columns < next {
                break;
            }
            picture.push(character);
            width = next;
        }
        // In the last column this would clear what was just written.
        if width < columns {
            picture.push_str("\x1b[K");
        }
    }
    // The last line that was written ends where it ends; what is below goes.
    if lines.len() < rows {
        picture.push_str("\r\n\x1b[J");
    }
    picture
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};

    use nix::pty::openpty;
    use nix::sys::termios;

    use super::*;

    #[test]
    fn a_picture_stays_within_the_terminal() {
        assert_eq!(picture("one\ntwo", 10, 5), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J");
        assert_eq!(picture("one\ntwo", 3, 2), "\x1b[Hone\r\ntwo");
        assert_eq!(picture("three\nfour\nfive", 3, 2), "\x1b[Hthr\r\n…\x1b[K");
        assert_eq!(picture("日本", 3, 1), "\x1b[H日\x1b[K");
        assert_eq!(picture("a\x1b[2Jb\tc", 20, 1), "\x1b[Ha [2Jb c\x1b[K");
        assert_eq!(picture("", 20, 2), "\x1b[H\r\n\x1b[J");
    }

    const ROLE: &str = "AUSPEX_TEST_PANICKING_VIEW";

    /// A view in a process of its own, which is this program again, panics.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        if std::env::var_os(ROLE).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let screen = Screen::open().expect("a terminal");
                screen.draw("a view").expect("drawn");
                panic!("in the middle of a view");
            });
        }
        let terminal = openpty(None, None).expect("a terminal");
        let before = termios::tcgetattr(&terminal.slave).expect("modes");
        let end = || Stdio::from(terminal.slave.try_clone().expect("another handle"));
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "screen::tests::a_panic_gives_the_terminal_back_before_it_speaks"])
            .args(["--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("a process");
        let mut master = File::from(terminal.master);
        let mut said = Vec::new();
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&said).contains("test result") {
            let count = master.read(&mut bytes).expect("more");
            said.extend_from_slice(&bytes[..count]);
        }
        assert!(!child.wait().expect("an end").success());
        let said = String::from_utf8_lossy(&said);
        let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?} in {said:?}"));
        assert!(at(OPEN) < at("a view") && at("a view") < at(CLOSE), "{said:?}");
        assert!(at(CLOSE) < at("in the middle of a view"), "{said:?}");
        assert_eq!(said.matches(CLOSE).count(), 1, "{said:?}");
        let after = termios::tcgetattr(&terminal.slave).expect("modes");
        assert_eq!(after.local_flags, before.local_flags);
    }
}

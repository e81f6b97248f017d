//! Places at which tests let the process die as `kill -9` would, one at every durable boundary: what was written before it
//! stays, what comes after it never happens. `AUSPEX_ABORT_AT=<point>=<hit>` arms one of them, in builds with debug
//! assertions only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable that arms a point.
pub const VARIABLE: &str = "AUSPEX_ABORT_AT";

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A boundary.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

points! {
    /// The block before the first one is written, and then committed.
    BeginWritten => "begin-written",
    Begun => "begun",
    /// A step holds the cursor's lock; each of its parts is written; all of it is; it is committed.
    StepLocked => "step-locked",
    StepTakenBack => "step-taken-back",
    StepFacts => "step-facts",
    StepProjected => "step-projected",
    StepWritten => "step-written",
    StepCommitted => "step-committed",
    /// The same of the repair of an omission.
    RepairTakenBack => "repair-taken-back",
    RepairWritten => "repair-written",
    RepairCommitted => "repair-committed",
    /// The reason of a halt is stored.
    Halted => "halted",
    /// The same of deriving everything again.
    RebuildCleared => "rebuild-cleared",
    RebuildWritten => "rebuild-written",
    RebuildCommitted => "rebuild-committed",
    /// The broker acknowledged; the publisher's place is kept.
    Published => "published",
    PlaceKept => "place-kept",
    /// A registration file was fetched; it is stored.
    FileFetched => "file-fetched",
    FileStored => "file-stored",
}

/// Ends the process here if this point is armed and this is its hit.
pub(crate) fn reach(point: Point) {
    static ARMED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static HITS: AtomicU32 = AtomicU32::new(0);
    if !cfg!(debug_assertions) {
        return;
    }
    let armed = ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    let Some((name, hit)) = armed else { return };
    if name == point.name() && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *hit {
        std::process::abort();
    }
}

fn parse(text: &str) -> Option<(String, u32)> {
    let (name, hit) = text.split_once('=')?;
    Some((name.to_owned(), hit.parse().ok()?))
}

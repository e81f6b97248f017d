//! Keeping what a process holds in memory to itself.

use anyhow::Context;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// From now on this process leaves no core dump, neither as a file nor to a program that collects them, and neither a
/// debugger nor another process of the same user can read its memory. What it starts later may leave no core file either.
pub fn protect() -> anyhow::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("forbid core files")?;
    // Programs that collect dumps are not bound by the limit, but by this.
    set_dumpable(false).context("protect the process's memory")
}

//! What model processes measured, as the node's `/metrics` shows it beside its own. Nodes of one process share it, as they
//! share the recorder of what they measure themselves.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The last report of each process, by the model's name. The metrics of an embedding model and of one that writes have
/// different names, so that their texts stand behind each other.
static REPORTS: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Keeps a process's last report.
pub(super) fn note(model: &'static str, text: String) {
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner).insert(model, text);
}

/// All processes' reports, in Prometheus's text format.
pub fn text() -> String {
    let reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    reports.values().map(String::as_str).collect()
}

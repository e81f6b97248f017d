//! How each chain's following stands, for status pages and readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::source::pool::Standing;

/// One chain's following, as of its last step.
#[derive(Debug, Clone)]
pub struct ChainHealth {
    /// True while this process holds the chain's lock and follows it.
    pub leading: bool,
    /// When an endpoint last answered with its head.
    pub head_seen: Option<Instant>,
    /// When the last step ended, whatever came of it; a loop that hangs stops moving this.
    pub stepped: Instant,
    pub head: Option<u64>,
    pub indexed: Option<u64>,
    /// What the last step was waiting for or failed at; null when all is well.
    pub trouble: Option<String>,
    pub halted: Option<String>,
    pub endpoints: Vec<Standing>,
}

/// The chains of this process. Cheap to clone and to read.
#[derive(Debug, Clone, Default)]
pub struct Health {
    // A std lock, because it is never held across an await.
    chains: Arc<RwLock<BTreeMap<u64, ChainHealth>>>,
}

impl Health {
    /// One chain's following; a process that only serves has none.
    pub fn chain(&self, chain_id: u64) -> Option<ChainHealth> {
        self.chains.read().unwrap_or_else(PoisonError::into_inner).get(&chain_id).cloned()
    }

    /// Changes one chain's entry, which begins as not leading.
    pub fn update(&self, chain_id: u64, change: impl FnOnce(&mut ChainHealth)) {
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        let entry = chains.entry(chain_id).or_insert_with(|| ChainHealth {
            leading: false,
            head_seen: None,
            stepped: Instant::now(),
            head: None,
            indexed: None,
            trouble: Some("starting".into()),
            halted: None,
            endpoints: Vec::new(),
        });
        entry.stepped = Instant::now();
        change(entry);
    }
}

//! What a worker asks the chain before it starts a request, remembered for as long as the chain stands still.

use alloy::primitives::Address;
use tokio::sync::Mutex;

use crate::chain::{Chain, ChainError, Head};
use crate::heads::Heads;
use crate::transaction::fee::Market;

/// What holds until another block comes.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The registry has revoked our signer.
    pub revoked: bool,
    pub market: Market,
}

/// The last reading, and the block that it was read at.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<Option<(Head, Reading)>>);

impl Gauge {
    /// Reads, or says again what was read at the same block. Workers that come meanwhile wait for the one who reads.
    pub async fn read(
        &self,
        chain: &Chain,
        signer: Address,
        heads: &Heads,
    ) -> Result<Reading, ChainError> {
        let mut last = self.0.lock().await;
        if let Some((_, reading)) = last.filter(|(head, _)| *head == heads.latest) {
            return Ok(reading);
        }
        let (revoked, market) =
            tokio::try_join!(chain.is_revoked(signer), chain.market(heads.latest.base_fee),)?;
        let reading = Reading { revoked, market };
        *last = Some((heads.latest, reading));
        Ok(reading)
    }
}

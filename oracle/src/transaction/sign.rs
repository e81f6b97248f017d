//! Signed transactions. The same values give the same bytes, because the signatures are deterministic (RFC 6979).

use alloy::consensus::{SignableTransaction, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes};

use crate::keys::SignerError;
use crate::keys::Transmitter;
use crate::signer::wire::TransactionDocument;
use crate::transaction::fee::Fees;
use crate::transaction::intent::Call;

/// A transaction that is ready to be stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub hash: B256,
    pub raw: Bytes,
    pub fees: Fees,
    pub gas_limit: u64,
    pub cancels: bool,
}

/// The values that one transaction is made of.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub chain_id: u64,
    pub nonce: u64,
    pub fees: Fees,
    pub gas_limit: u64,
}

/// Signs a call without value.
pub async fn call(key: &Transmitter, terms: Terms, call: &Call) -> Result<Signed, SignerError> {
    sign(key, terms, call.target, call.calldata.clone(), false).await
}

/// Signs a transfer of nothing to ourselves.
pub async fn cancel(key: &Transmitter, terms: Terms) -> Result<Signed, SignerError> {
    sign(key, terms, key.address(), Bytes::new(), true).await
}

async fn sign(
    key: &Transmitter,
    terms: Terms,
    target: Address,
    calldata: Bytes,
    cancels: bool,
) -> Result<Signed, SignerError> {
    let document = TransactionDocument {
        chain_id: terms.chain_id,
        nonce: terms.nonce,
        gas_limit: terms.gas_limit,
        max_fee: terms.fees.max_fee,
        priority_fee: terms.fees.priority,
        target,
        calldata,
    };
    let (transaction, signature) = key.sign_transaction(&document).await?;
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    Ok(Signed {
        hash: *envelope.tx_hash(),
        raw: envelope.encoded_2718().into(),
        fees: terms.fees,
        gas_limit: terms.gas_limit,
        cancels,
    })
}

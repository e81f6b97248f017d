//! What an endpoint's words about a transaction mean. JSON-RPC has no codes for them, and every client has its own texts.

/// What became of handing a transaction to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The endpoint has it already: as good as accepted.
    Known,
    /// The nonce is used. By which transaction, only the chain can say.
    NonceUsed,
    /// A transaction with the same nonce is there and ours does not pay enough more.
    ReplacementUnderpriced,
    /// It pays too little for this endpoint at the moment.
    Underpriced,
    /// The account cannot pay for it.
    InsufficientFunds,
    /// The endpoint wants the nonces before it first.
    NonceGap,
    /// The endpoint has no room.
    PoolFull,
    /// No endpoint will ever take these bytes.
    Invalid,
    /// Not a text that is known; the transaction may or may not have been taken.
    Unknown,
}

/// Fragments in lower case, the more telling ones first: geth's "replacement transaction underpriced" holds its
/// "transaction underpriced".
const TEXTS: &[(&str, Reply)] = &[
    // geth, op-geth, reth, erigon
    ("already known", Reply::Known),
    // erigon
    ("existing tx with same hash", Reply::Known),
    ("already_exists", Reply::Known),
    // nethermind
    ("alreadyknown", Reply::Known),
    // anvil, and parity's descendants
    ("already imported", Reply::Known),
    ("known transaction", Reply::Known),
    // geth, op-geth, reth, erigon, anvil
    ("nonce too low", Reply::NonceUsed),
    // nethermind
    ("oldnonce", Reply::NonceUsed),
    ("nonce is too low", Reply::NonceUsed),
    // geth, op-geth, reth, anvil
    ("replacement transaction underpriced", Reply::ReplacementUnderpriced),
    // erigon
    ("could not replace existing tx", Reply::ReplacementUnderpriced),
    // nethermind
    ("replacementnotallowed", Reply::ReplacementUnderpriced),
    ("gas price too low to replace", Reply::ReplacementUnderpriced),
    // geth, op-geth, reth, erigon, nethermind, anvil
    ("insufficient funds", Reply::InsufficientFunds),
    ("insufficientfunds", Reply::InsufficientFunds),
    ("insufficient balance", Reply::InsufficientFunds),
    // geth and op-geth limit what waits behind a gap
    ("future transaction tries to replace pending", Reply::PoolFull),
    ("in-flight transaction limit", Reply::PoolFull),
    ("account limit exceeded", Reply::PoolFull),
    ("txpool is full", Reply::PoolFull),
    ("transaction pool is full", Reply::PoolFull),
    ("txpool.full", Reply::PoolFull),
    // erigon: "pending sub-pool is full" and its two siblings
    ("sub-pool is full", Reply::PoolFull),
    // geth, op-geth, reth, anvil
    ("max fee per gas less than block base fee", Reply::Underpriced),
    ("fee cap less than block base fee", Reply::Underpriced),
    ("underpriced", Reply::Underpriced),
    // erigon
    ("fee too low", Reply::Underpriced),
    // nethermind: also FeeTooLowToCompete
    ("feetoolow", Reply::Underpriced),
    // geth, reth
    ("nonce too high", Reply::NonceGap),
    // erigon
    ("nonce too distant", Reply::NonceGap),
    // nethermind
    ("noncegap", Reply::NonceGap),
    // all
    ("intrinsic gas too low", Reply::Invalid),
    ("intrinsic gas too high", Reply::Invalid),
    ("exceeds block gas limit", Reply::Invalid),
    ("gas limit is too big", Reply::Invalid),
    ("gaslimitexceeded", Reply::Invalid),
    ("invalid sender", Reply::Invalid),
    ("invalid chain id", Reply::Invalid),
    ("invalid signature", Reply::Invalid),
    ("priority fee per gas higher than max fee per gas", Reply::Invalid),
    ("transaction type not supported", Reply::Invalid),
    ("oversized data", Reply::Invalid),
    ("exceeds the configured cap", Reply::Invalid),
];

/// Reads the message of an error reply to `eth_sendRawTransaction`.
pub fn read(message: &str) -> Reply {
    let lower = message.to_ascii_lowercase();
    TEXTS
        .iter()
        .find(|(fragment, _)| lower.contains(fragment))
        .map_or(Reply::Unknown, |(_, reply)| *reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_clients_are_understood() {
        let cases = [
            ("geth", "already known", Reply::Known),
            ("geth", "nonce too low: next nonce 12, tx nonce 11", Reply::NonceUsed),
            ("geth", "replacement transaction underpriced", Reply::ReplacementUnderpriced),
            (
                "geth",
                "replacement transaction underpriced: new tx gas fee cap 100 <= 110 queued",
                Reply::ReplacementUnderpriced,
            ),
            (
                "geth",
                "transaction underpriced: gas tip cap 0, minimum needed 1",
                Reply::Underpriced,
            ),
            (
                "geth",
                "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7",
                Reply::Underpriced,
            ),
            (
                "geth",
                "insufficient funds for gas * price + value: balance 0, tx cost 21000",
                Reply::InsufficientFunds,
            ),
            ("geth", "txpool is full", Reply::PoolFull),
            ("geth", "future transaction tries to replace pending", Reply::PoolFull),
            ("geth", "intrinsic gas too low: gas 20000, minimum needed 21000", Reply::Invalid),
            ("geth", "exceeds block gas limit", Reply::Invalid),
            ("geth", "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)", Reply::Invalid),
            (
                "op-geth",
                "in-flight transaction limit reached for delegated accounts",
                Reply::PoolFull,
            ),
            ("op-geth", "nonce too low: address 0x00, tx: 3 state: 4", Reply::NonceUsed),
            ("reth", "already known", Reply::Known),
            ("reth", "nonce too low: next nonce 4, tx nonce 3", Reply::NonceUsed),
            ("reth", "transaction underpriced", Reply::Underpriced),
            ("reth", "replacement transaction underpriced", Reply::ReplacementUnderpriced),
            (
                "reth",
                "insufficient funds for gas * price + value: have 0 want 21000",
                Reply::InsufficientFunds,
            ),
            ("reth", "max priority fee per gas higher than max fee per gas", Reply::Invalid),
            ("erigon", "ALREADY_EXISTS: already known", Reply::Known),
            ("erigon", "existing tx with same hash", Reply::Known),
            ("erigon", "could not replace existing tx", Reply::ReplacementUnderpriced),
            ("erigon", "fee too low", Reply::Underpriced),
            ("erigon", "nonce too distant from account", Reply::NonceGap),
            ("erigon", "baseFee sub-pool is full", Reply::PoolFull),
            ("nethermind", "AlreadyKnown", Reply::Known),
            ("nethermind", "OldNonce, Current nonce: 5, nonce of rejected tx: 3", Reply::NonceUsed),
            ("nethermind", "ReplacementNotAllowed", Reply::ReplacementUnderpriced),
            ("nethermind", "FeeTooLowToCompete", Reply::Underpriced),
            ("nethermind", "InsufficientFunds, Account balance: 0", Reply::InsufficientFunds),
            ("nethermind", "NonceGap, Future nonce. Expected nonce: 1", Reply::NonceGap),
            ("nethermind", "GasLimitExceeded, Gas limit: 1, gas limit of block: 0", Reply::Invalid),
            ("anvil", "transaction already imported", Reply::Known),
            ("anvil", "nonce too low", Reply::NonceUsed),
            ("anvil", "replacement transaction underpriced", Reply::ReplacementUnderpriced),
            ("anvil", "Insufficient funds for gas * price + value", Reply::InsufficientFunds),
            ("anvil", "max fee per gas less than block base fee", Reply::Underpriced),
            ("any", "internal error", Reply::Unknown),
            ("any", "", Reply::Unknown),
        ];
        for (client, text, expected) in cases {
            assert_eq!(read(text), expected, "{client}: {text}");
        }
    }
}

//! The ways in which a replay node is slow, limited or wrong.

use std::time::Duration;

/// What is wrong with a node. The default is an honest and fast one. Receipts are always honest: nobody was ever seen to
/// lie about them, and they are what the others are checked against.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every answer takes this long.
    pub latency: Duration,
    /// Every so manieth block is given without its last log.
    pub omit_every: Option<u64>,
    /// Answers about logs are empty.
    pub empty: bool,
    /// The first answer about each block's logs is empty.
    pub empty_first: bool,
    /// Every second request is answered by a node that is this many blocks behind.
    pub behind: u64,
    /// Every log is given twice.
    pub duplicate: bool,
    /// One log more than there is, marked as removed.
    pub removed: bool,
    /// Logs name a block that does not exist.
    pub foreign_hash: bool,
    /// The first so many questions for a block by number that was not asked for before are answered with null.
    pub null_first: u32,
    /// Answers are cut after so many logs, without a word.
    pub cut_logs: Option<usize>,
    /// Log queries over more blocks are refused, in QuickNode's words.
    pub range_max: Option<u64>,
    /// Log queries with more results are refused, in Alchemy's words.
    pub logs_max: Option<usize>,
    /// Log queries over more blocks are refused, in words that nobody knows.
    pub range_max_unsaid: Option<u64>,
    /// Requests of more calls are refused as a whole, by one error.
    pub calls_max: Option<usize>,
    /// Every so manieth request is refused with HTTP 429.
    pub refuse_every: Option<u64>,
    /// Every so manieth request is answered with status 200 and a page that is not JSON.
    pub page_every: Option<u64>,
    /// So many log queries are never answered.
    pub hang_logs: u32,
    /// The chain id that is told, where it is not the true one.
    pub chain_id: Option<u64>,
}

//! Limits that both sides of the chain hold.

/// Largest request input in bytes; the escrow refuses a larger one.
pub const INPUT_BYTES_MAX: usize = 8 * 1024;

/// Largest answer document in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Largest operator message in bytes: an answer and its signatures, with room for the envelope.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Most bytes of text in one part of an unfinished answer.
pub const PARTIAL_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Largest message with a part of an unfinished answer in bytes: its text, which JSON in JSON may write with up to seven
/// bytes for one, with room for the envelope.
pub const PARTIAL_BYTES_MAX: usize = 8 * PARTIAL_TEXT_BYTES_MAX;

/// Most payees of a split.
pub const SPLIT_RECIPIENTS_MAX: usize = 16;

/// Most members of an operator set.
pub const SET_MEMBERS_MAX: usize = 32;

/// Most deliveries or requests in one batch.
pub const BATCH_MAX: usize = 50;

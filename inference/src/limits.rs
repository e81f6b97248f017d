//! Every limit of this crate, in one place.

/// Longest sequence the encoder reads, in tokens, with the two special ones.
///
/// The model's `tokenizer.json` says 128 and its position table 512; sentence-transformers, whose
/// vectors are the reference, cuts at 256.
pub const SEQUENCE_TOKENS_MAX: usize = 256;

/// Longest pair of texts that a [`CrossEncoder`](crate::CrossEncoder) reads, in tokens, with the three
/// special ones: the position table of all published ones. What is longer loses tokens at the end of
/// its longer text.
pub const PAIR_TOKENS_MAX: usize = 512;

/// Longest text that is tokenised at all, in bytes. Text behind the 256th token has no influence
/// on a vector, so this only bounds the work that an oversized input can cause.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Tokens of one forward pass. Larger batches gain nothing on a CPU, because the activations
/// leave the second-level cache, and bound how long a new job waits behind a running one.
pub const BATCH_TOKENS_MAX: usize = 2048;

/// The same on a GPU, which has more to do at once, and where starting the kernels of a pass takes as
/// long as a thousand tokens do.
pub const BATCH_TOKENS_GPU: usize = 16_384;

/// Texts in one job of an [`Engine`](crate::Engine).
pub const JOB_TEXTS_MAX: usize = 256;

/// Tokens that may wait in an [`Engine`](crate::Engine)'s queue or be in work, over all jobs:
/// room for four of the largest jobs, so that one that indexes a corpus does not shut others out.
pub const QUEUE_TOKENS_MAX: usize = 4 * JOB_TEXTS_MAX * SEQUENCE_TOKENS_MAX;

/// Jobs that may wait in an [`Engine`](crate::Engine)'s channel.
pub const QUEUE_JOBS_MAX: usize = 1024;

/// Size of `config.json` and of the other small JSON files, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Size of `tokenizer.json`, in bytes. The largest published vocabularies are near 20 MiB.
pub const TOKENIZER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Size of `model.safetensors`, in bytes.
pub const WEIGHTS_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Largest value of any dimension in `config.json`; beyond it a product of two could overflow
/// the sizes that are computed from them.
pub const CONFIG_DIMENSION_MAX: usize = 1_000_000;

/// Most transformer layers in `config.json`.
pub const CONFIG_LAYERS_MAX: usize = 256;

/// Uncompressed size of a table for [`sts_spearman`](crate::sts_spearman), in bytes.
pub const STS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Test pairs of a table for [`sts_spearman`](crate::sts_spearman).
pub const STS_PAIRS_MAX: usize = 100_000;

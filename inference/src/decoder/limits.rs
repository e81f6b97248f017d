//! Every limit of the decoder, in one place.

/// Size of one `.safetensors` file, in bytes; hubs publish shards of up to 5 GB.
pub const SHARD_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// Files that the weights may be spread over.
pub const SHARDS_MAX: usize = 256;

/// Size of the JSON header of a `.safetensors` file, in bytes.
pub const HEADER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Size of a chat template, in bytes.
pub const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;

/// Longest text of one prompt, in bytes.
pub const PROMPT_BYTES_MAX: usize = 1024 * 1024;

/// Positions of one sequence, prompt and output together, whatever the model allows: keys and
/// values of a longer one would take gigabytes.
pub const POSITIONS_MAX: usize = 32_768;

/// Tokens of the smallest unit in which keys and values are kept and shared.
pub const BLOCK_TOKENS: usize = 16;

/// Tokens whose keys and values one engine keeps unless it is told otherwise.
pub const CACHE_TOKENS: usize = 16_384;

/// Rows of one pass: tokens of prompts and one token of each sequence that is being written. It
/// bounds how long a running answer waits for its next token while a long prompt is read.
pub const PASS_TOKENS_MAX: usize = 256;

/// Sequences that are written at the same time; more wait.
pub const SEQUENCES_MAX: usize = 32;

/// Requests that may wait in the engine's channel.
pub const REQUESTS_MAX: usize = 256;

/// Stop sequences of one request, and the bytes of each.
pub const STOPS_MAX: usize = 16;
/// Bytes of one stop sequence.
pub const STOP_BYTES_MAX: usize = 256;

/// Size of a JSON schema that constrains an output, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// How deep a JSON schema may nest, and with it the output.
pub const SCHEMA_DEPTH_MAX: usize = 32;

//! Every limit of the indexer, in one place.

use std::time::Duration;

// CHAIN

/// Fewest block hashes that are kept below the cursor, also where the finalized block is nearer (about 68 minutes on Base).
pub const WINDOW_BLOCKS_MIN: u64 = 2_048;

/// Most headers that are walked back to find where two branches meet; a deeper reorg halts the chain.
pub const REORG_DEPTH_MAX: u64 = 50_000;

/// Most blocks of a new branch that replace an old one in the same transaction; the rest of it follows as extensions.
pub const SWAP_BLOCKS_MAX: u64 = 4_096;

/// Most blocks above the finalized one that are read in one step.
pub const LIVE_BLOCKS_MAX: u64 = 64;

/// Blocks of one log query below the finalized block: at the start, and the bounds between which it adapts.
pub const RANGE_BLOCKS_START: u64 = 200;
pub const RANGE_BLOCKS_MIN: u64 = 1;
pub const RANGE_BLOCKS_MAX: u64 = 2_000;

/// Logs of one query that ranges are made as wide as it takes for.
pub const RANGE_LOGS_AIM: u64 = 4_000;

/// Ranges in a row that could not be read, for whatever reason an endpoint gave, after which they are made smaller.
pub const RANGE_FAILURES_MAX: u32 = 5;

/// Ranges that are served before the width that was last refused is tried again.
pub const RANGES_BEFORE_GROWTH: u32 = 64;

/// Log queries below the finalized block that are under way at once.
pub const RANGES_IN_FLIGHT_MAX: usize = 6;

/// Headers of one batch request.
pub const BATCH_HEADERS_MAX: usize = 100;

/// Batches of headers of one range that are under way at once.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// Blocks whose receipts are asked for in one batch.
pub const BATCH_RECEIPTS_MAX: usize = 16;

/// Requests for single blocks' logs, or for batches of receipts, that are under way at once.
pub const RECEIPTS_IN_FLIGHT_MAX: usize = 8;

/// Logs of one block; more than any chain's gas limit allows.
pub const BLOCK_LOGS_MAX: usize = 1_000_000;

/// Steps at the same block with a gap in an event sequence after which the chain is halted: the first ones read the new
/// blocks again by their receipts, the next the stored ones.
pub const GAP_ATTEMPTS_MAX: u32 = 3;

/// Blocks that are read again at once in search of events that were left out.
pub const HEAL_BLOCKS: u64 = 500;

/// Found events after which a repair is written before the search goes on.
pub const HEAL_FACTS_MAX: usize = 50_000;

// ENDPOINTS

/// Longest time for one JSON-RPC request, from connecting to the last byte.
pub const RPC_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest JSON-RPC response in bytes.
pub const RPC_RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long an endpoint that failed a check is not asked; doubles with each failure up to the maximum.
pub const QUARANTINE_MIN: Duration = Duration::from_secs(5);
pub const QUARANTINE_MAX: Duration = Duration::from_secs(600);

/// Steps that an endpoint serves after which half of its failed checks are forgiven (some minutes at the tip): the length of its
/// next quarantine is not that of a lifetime.
pub const STEPS_BEFORE_PARDON: u32 = 1_000;

/// How long an endpoint that could not be reached is not asked; doubles with each failure up to the maximum.
pub const BACKOFF_MIN: Duration = Duration::from_millis(200);
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long an endpoint may tell the same head before the others are asked whether they are ahead, and how long until they are
/// asked again (five blocks on Base).
pub const HEAD_STILL_MAX: Duration = Duration::from_secs(10);

/// Characters of an endpoint's error text that are kept.
pub const ERROR_TEXT_MAX: usize = 300;

// PROJECTIONS

/// Rounds in which a batch's projection may find out that it needs further rows.
pub const PROJECT_ROUNDS_MAX: usize = 16;

/// Longest metadata key in bytes that stands in an id as it is; a longer one stands as its hash.
pub const ID_KEY_BYTES_MAX: usize = 128;

// CONTRACTS BY CONFIGURATION

/// Characters of such a contract's name.
pub const CONTRACT_NAME_MAX: usize = 48;

/// Contracts that the factories of a chain have created: their addresses are held in memory, about 60 bytes each.
pub const CHILDREN_MAX: usize = 1_000_000;

/// Events of such a contract.
pub const CONTRACT_EVENTS_MAX: usize = 64;

// STORE

/// Longest time for one statement of the follow loop.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Blocks whose facts are in one partition; `migrations/0008_scale.sql` says the same.
pub const PARTITION_BLOCKS: u64 = 1_000_000;

/// Facts of whole blocks that a rebuild or a repair reads at once, about as many as a step below the finalized block has. A
/// single block may have more.
pub const REBUILD_FACTS_MAX: i64 = 5_000;

/// Blocks behind the head from which on a chain's past is read without telling the outbox: nobody waits for what happened
/// long ago, and it can be queried. Once near the head, everything is told, however far following falls back later.
pub const UNTOLD_LAG_MIN: u64 = WINDOW_BLOCKS_MIN;

/// Current rows that are kept in memory between two steps of a chain.
pub const CACHED_ROWS_MAX: usize = 8_192;

/// Outbox rows that are kept for readers that resume.
pub const OUTBOX_ROWS_KEPT: i64 = 1_000_000;

/// Outbox rows that are kept for the publisher where it has not published them yet, as when the broker is away; what is older is
/// dropped, and counted.
pub const OUTBOX_ROWS_MAX: i64 = 5_000_000;

// FOLLOWING

/// Time without a block or an answer after which a follow loop is abandoned and started anew.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(180);

/// Pause after a failed step; doubles with each failure up to the maximum.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks at a chain that is halted.
pub const HALTED_PAUSE: Duration = Duration::from_secs(15);

// PUBLISHING

/// Outbox rows that are published at once.
pub const PUBLISH_ROWS_MAX: i64 = 500;

/// Publications that wait for the broker's acknowledgement at once.
pub const PUBLISH_IN_FLIGHT_MAX: usize = 100;

/// Time without an acknowledgement after which the client is taken apart and built anew.
pub const PUBLISH_ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between looks at the outbox when nothing rings, and between attempts to reach a broker.
pub const PUBLISH_POLL: Duration = Duration::from_secs(1);

// REGISTRATION FILES

/// Largest registration file in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// Longest URI that is followed, in bytes; `data:` URIs hold the file itself.
pub const FILE_URI_BYTES_MAX: usize = 2 * FILE_BYTES_MAX;

/// Longest time for one registration file, redirects included.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest time that one of several IPFS gateways gets of it, so that one which hangs does not use up the others' time.
pub const FILE_GATEWAY_TIME_MIN: Duration = Duration::from_secs(2);

/// Longest time for one file with all gateways together, where there are so many that the shortest times add up to more.
pub const FILE_GATEWAYS_TIME_MAX: Duration = Duration::from_secs(15);

/// Redirects that are followed; each target is checked like the first address.
pub const FILE_REDIRECTS_MAX: usize = 3;

/// Attempts after which a file that cannot be had is left alone until its URI changes.
pub const FILE_ATTEMPTS_MAX: i32 = 8;

/// Files that are fetched at once.
pub const FILES_IN_FLIGHT_MAX: usize = 4;

/// Pause between looks for agents whose file is due.
pub const FILE_POLL: Duration = Duration::from_secs(2);

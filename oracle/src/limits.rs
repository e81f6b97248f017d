//! Every limit of the node, by name. What happens at a limit is said where the limit is applied.

use std::time::Duration;

/// Longest time that a worker may hold a job without renewing its lease.
pub const LEASE: Duration = Duration::from_secs(30);

/// A worker renews its lease this often while it answers.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(10);

/// A connection to the database that was idle for longer is asked whether it lives before it is used.
pub const CONNECTION_IDLE_UNTESTED_MAX: Duration = Duration::from_secs(1);

/// Most workers of one process.
pub const WORKERS_MAX: usize = 64;

/// Longest sleep of an idle worker; a bell wakes it earlier.
pub const WORKER_SLEEP: Duration = Duration::from_millis(250);

/// A job that waits for the chain or for other operators is looked at again after this time at the latest.
pub const JOB_RECHECK: Duration = Duration::from_secs(1);

/// A job whose delivery is under way is woken when something happens to it. It is looked at after this time anyway, because
/// somebody else's delivery makes ours pointless.
pub const DELIVERING_RECHECK: Duration = Duration::from_secs(3);

/// A delivered job waits for the safe chain, whose advance wakes it. It is looked at after this time anyway, because a reorg
/// may have taken away a delivery that was not ours.
pub const DELIVERED_RECHECK: Duration = Duration::from_secs(30);

/// The same while there is little time to deliver again.
pub const DELIVERED_RECHECK_URGENT: Duration = Duration::from_secs(5);

/// Seconds before a deadline in which there is little time.
pub const URGENT_SECONDS: u64 = 180;

/// Wait before the second try of a failed step; doubles per failure up to [`RETRY_WAIT_MAX`].
pub const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Longest wait between two tries of a failed step.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// A request that our chain endpoint does not know is taken for reorged away once the endpoint is this many blocks
/// beyond the block in which the indexer saw it.
pub const ABSENT_BLOCKS: u64 = 3;

/// Most deliveries that are tried for one request. Beyond it the other operators or the refund decide.
pub const DELIVERIES_PER_REQUEST_MAX: u32 = 3;

/// Longest reason that is stored or published, in bytes; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 512;

/// Most messages of one signer about one request that are kept; later ones are ignored.
pub const MESSAGES_PER_SIGNER_MAX: i64 = 16;

/// The whole list of open requests is read this often, because a reorg may have put a request where another was; between
/// that, only what is new on it.
pub const DISCOVERY_WHOLE: Duration = Duration::from_secs(2);

/// Requests per page when the indexer is asked.
pub const DISCOVERY_PAGE: usize = 200;

/// Most pages that one discovery reads; the rest is read by the next one.
pub const DISCOVERY_PAGES_MAX: usize = 50;

/// Largest reply of the indexer in bytes that is read.
pub const BOARD_REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Time allowed for one call of the indexer.
pub const BOARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time allowed for one call of a chain endpoint.
pub const CHAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Most URLs of chain endpoints.
pub const ENDPOINTS_MAX: usize = 8;

/// Messages that are with the broker and not yet acknowledged; more wait in the outbox.
pub const BUS_IN_FLIGHT_MAX: u16 = 50;

/// Broker messages that were received and not yet applied. Beyond it reading from the broker pauses.
pub const BUS_RECEIVED_MAX: usize = 256;

/// Acknowledgements of applied messages that the broker's client holds and has not written. Brokers have fewer messages
/// under way to one client than this.
pub const BUS_UNACKNOWLEDGED_MAX: usize = 1024;

/// Parts of unfinished answers that wait for the broker's client; a further one is lost.
pub const PARTIALS_WAITING_MAX: usize = 64;

/// Parts of unfinished answers that the broker's client holds and has not written; more wait.
pub const PARTIALS_UNDER_WAY_MAX: usize = 16;

/// A broker that acknowledges nothing for this long is taken for dead and the client is rebuilt.
pub const BUS_ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The outbox is swept this often for messages that no bell announced.
pub const OUTBOX_SWEEP: Duration = Duration::from_secs(5);

/// Messages that are on their way to the board at once.
pub const BOARD_POSTS_MAX: usize = 8;

/// Outbox rows that are read at once.
pub const OUTBOX_BATCH: i64 = 50;

/// Messages whose numbers were given out and which are stored after one with a higher number; a sweep of everything finds
/// what is further behind.
pub const OUTBOX_OVERTAKEN_MAX: i64 = 256;

/// Wait before the broker is tried again; doubles per failure up to [`BUS_RECONNECT_MAX`].
pub const BUS_RECONNECT: Duration = Duration::from_millis(200);

/// Longest wait between two tries to reach the broker.
pub const BUS_RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Time between two heartbeats of an operator.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A heartbeat younger than this shows a live operator.
pub const HEARTBEAT_FRESH: Duration = Duration::from_secs(15);

/// Most other operators that are remembered.
pub const PEERS_MAX: i64 = 1024;

/// Transactions of one key that may be under way at once; more intents wait in the queue.
pub const TRANSACTIONS_IN_FLIGHT_MAX: usize = 16;

/// Signed transactions of one intent; beyond it the last one is only sent again.
pub const ATTEMPTS_PER_INTENT_MAX: usize = 32;

/// Reverts in a row after which the transaction manager stops itself.
pub const CONSECUTIVE_REVERTS_MAX: u32 = 3;

/// Most deliveries of one batch; the escrow takes 64, and a batch that does not come through is tried one by one.
pub const DELIVERIES_PER_BATCH_MAX: usize = 40;

/// Most bytes of calldata in a batch; clients refuse transactions over 128 KiB.
pub const BATCH_CALLDATA_BYTES_MAX: usize = 96 * 1024;

/// Deliveries with less time than this before their deadline travel alone, because a deadline that passes in the pool
/// reverts the whole batch.
pub const BATCH_DEADLINE_SECONDS_MIN: u64 = 60;

/// What a batch was found to need says what the next one needs for this long.
pub const BATCH_EXPERIENCE_MAX: Duration = Duration::from_secs(60);

/// What was spent is added up this often. Between that, what leaves the budget's window still counts.
pub const SPENT_READ_AGE_MAX: Duration = Duration::from_secs(60);

/// Times in a row that the transaction manager may leave what became of transactions unnoted, because new deliveries wait.
pub const NOTING_DEFERRED_MAX: u32 = 4;

/// Questions to a chain endpoint about transactions that may be under way at once.
pub const CHAIN_QUESTIONS_MAX: usize = 8;

/// Newest blocks whose hashes the transaction manager keeps; what was recorded further down is asked for.
pub const BRANCH_BLOCKS_MAX: usize = 512;

/// Most blocks that are read to link a new head to the ones that are kept; beyond it they are forgotten.
pub const BRANCH_GAP_MAX: usize = 64;

/// Gas of a transfer of nothing to ourselves.
pub const CANCEL_GAS: u64 = 21_000;

/// Most gas that a delivery may be given. A delivery of 32 signatures with a callback stays far below.
pub const DELIVERY_GAS_MAX: u64 = 3_000_000;

/// Gas that a delivery is expected to use when its price is weighed before any work is done.
pub const DELIVERY_GAS_EXPECTED: u64 = 250_000;

/// Time over which the gas budget is counted.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest keystore or password file in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A node whose view of the chain is older than this is not ready.
pub const HEAD_AGE_MAX: Duration = Duration::from_secs(60);

/// A node that has not reached the indexer for this long is not ready.
pub const DISCOVERY_AGE_MAX: Duration = Duration::from_secs(60);

/// Time that a stopping node gives its tasks to finish their present step.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Most gas that the signer lets a transaction ask for: a full batch of deliveries stays below.
pub const TRANSACTION_GAS_MAX: u64 = 12_000_000;

/// Longest line between a node and its signer in bytes: a message of the largest size, with its JSON in JSON.
pub const SIGNER_LINE_BYTES_MAX: usize = 512 * 1024;

/// Connections that a signer serves at once; further ones are closed.
pub const SIGNER_CONNECTIONS_MAX: usize = 128;

/// Connections that a node keeps open to its signer while it does not use them.
pub const SIGNER_IDLE_CONNECTIONS_MAX: usize = 8;

/// Questions that wait for the signer's log; further ones wait in their sockets.
pub const SIGNER_QUEUE_MAX: usize = 256;

/// Promises that one durable write of the signer's log carries at most.
pub const SIGNER_BATCH_MAX: usize = 64;

/// Time allowed for one answer of the signer, a remote signer's included.
pub const SIGNER_ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a starting node waits for its signer's socket.
pub const SIGNER_START_WAIT: Duration = Duration::from_secs(30);

/// Time allowed for one call of a remote signer.
pub const REMOTE_SIGNER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most keys that a remote signer may list.
pub const REMOTE_SIGNER_KEYS_MAX: usize = 10_000;

/// Largest reply of a remote signer in bytes.
pub const REMOTE_SIGNER_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time allowed for one call of a KMS and the credentials for it. All tries together stay below the time that a node waits for its signer.
pub const KMS_TIMEOUT: Duration = Duration::from_secs(4);

/// How often a KMS is asked for one thing.
pub const KMS_TRIES: u32 = 3;

/// Pause before a KMS is asked a second time; doubles.
pub const KMS_PAUSE: Duration = Duration::from_millis(200);

/// Time allowed to fetch credentials of AWS, as a part of [`KMS_TIMEOUT`].
pub const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(2);

/// Credentials of AWS are fetched again this long before they end. AWS has the next ones ready by then.
pub const CREDENTIALS_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Least time between two fetches of credentials of AWS.
pub const CREDENTIALS_PAUSE: Duration = Duration::from_secs(10);

/// Largest reply with credentials of AWS in bytes.
pub const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;

/// Characters of a remote signer's complaint that are repeated.
pub const REMOTE_COMPLAINT_CHARACTERS: usize = 300;

/// Failures of the model process in a row after which its device is left for the next one.
pub const MODEL_FAILURES_MAX: u32 = 3;

/// A device that was left is tried again after this time.
pub const MODEL_DEVICE_RETRY: Duration = Duration::from_secs(10 * 60);

/// Time for which questions are refused at once when the model fails on every device.
pub const MODEL_OPEN: Duration = Duration::from_secs(30);

/// Model processes that one question may see end; beyond it the job is tried again later.
pub const MODEL_ATTEMPTS_MAX: u32 = 4;

/// Time allowed to load an embedding model and to test it.
pub const EMBEDDING_START_TIMEOUT: Duration = Duration::from_secs(120);

/// The same for a model that writes, of which gigabytes may have to be read from a slow disk.
pub const WRITING_START_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// An embedding model's process that has orders says something within this time, or is ended.
pub const EMBEDDING_SILENCE_MAX: Duration = Duration::from_secs(60);

/// The same for a model that writes. It says how far it is after each pass over all of its orders; one over 256 tokens of a
/// model with 8 billion weights is reckoned, not measured, at 20 to 60 s on two cores.
pub const WRITING_SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// How often a model process reports what it measured.
pub const MODEL_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Orders that a model process has at the same time. It batches them as it can.
pub const MODEL_ORDERS_MAX: usize = 64;

/// Orders that wait for room among those; further ones wait in their workers.
pub const MODEL_QUEUE_MAX: usize = 64;

//! Every limit of the embedded world. What happens at a limit is said beside it.

use std::time::Duration;

/// Ports are handed out from this range, which lies below the range from which Linux and macOS take the
/// local ports of outgoing connections, so that no connection can take a port that is reserved here.
pub const PORT_RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Attempts to find a free port before giving up with an error.
pub const PORT_ATTEMPTS_MAX: usize = 256;

/// Starts on a fresh port before a service gives up because "the address is in use".
pub const START_ATTEMPTS_MAX: usize = 5;

/// How often a supervisor looks whether its child has ended.
pub const EXIT_POLL: Duration = Duration::from_millis(20);

/// How often a start looks whether the service answers.
pub const READY_POLL: Duration = Duration::from_millis(25);

/// Default time between the polite signal and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// The same for PostgreSQL, which writes a checkpoint, and anvil, which writes its chain.
pub const SERVICE_STOP_GRACE: Duration = Duration::from_secs(30);

/// First pause before a child is started again; it doubles with every quick end.
pub const RESTART_PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Longest pause before a child is started again. A child that ran for longer than this counts as
/// healthy, and its next pause is the first one again.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(15);

/// A log file that is larger when its process starts is moved to `<name>.1`, which is replaced.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How much of the end of a log an error message quotes.
pub const LOG_TAIL_BYTES: u64 = 2 * 1024;

/// PostgreSQL must answer within this time after its start; recovery after a crash is included.
pub const POSTGRES_START_DEADLINE: Duration = Duration::from_secs(60);

/// Creating a cluster must be done within this time.
pub const INITDB_DEADLINE: Duration = Duration::from_secs(120);

/// A server that is being stopped by its watchdog must be gone within this time before the next start on
/// the same data gives up.
pub const POSTGRES_PREDECESSOR_DEADLINE: Duration = Duration::from_secs(40);

/// Connections of the embedded PostgreSQL; one more is refused with "too many clients already".
pub const POSTGRES_CONNECTIONS_MAX: u32 = 300;

/// Longest directory name under which PostgreSQL's socket still fits in a socket address (107 bytes on
/// Linux, 103 on macOS, less `/.s.PGSQL.65535`); a longer one is replaced by a temporary directory.
pub const SOCKET_DIR_BYTES_MAX: usize = 86;

/// Connections in the pool of one test database.
pub const TEST_POOL_CONNECTIONS_MAX: u32 = 10;

/// Test databases that wait to be created or dropped; more wait at the sender.
pub const TEST_DATABASE_QUEUE: usize = 64;

/// anvil must answer within this time after its start; loading a saved state is included.
pub const ANVIL_START_DEADLINE: Duration = Duration::from_secs(60);

/// How often the chain's file is looked at, to copy it when it has changed.
pub const STATE_POLL: Duration = Duration::from_millis(250);

/// Blocks that a kept chain mines before its state is written again and its journal begins anew. A chain that was killed
/// replays at most these, and what waits for the next block.
pub const JOURNAL_BLOCKS_MAX: u32 = 256;

/// The same for the journal's length in bytes.
pub const JOURNAL_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Blocks that one call may ask a kept chain to mine; more are an error.
pub const MINE_BLOCKS_MAX: u64 = 4_096;

/// How long a call waits for a killed chain to be itself again before it gets an error.
pub const CHAIN_RETURN_DEADLINE: Duration = Duration::from_secs(30);

/// How often such a call looks.
pub const CHAIN_RETURN_POLL: Duration = Duration::from_millis(50);

/// Pause between two attempts to start a chain that does not start.
pub const CHAIN_START_PAUSE: Duration = Duration::from_secs(1);

/// Calls that change the chain and wait for their turn; more wait at the sender.
pub const CHAIN_QUEUE: usize = 64;

/// Largest call to a kept chain, as anvil's own `anvil_loadState` needs it; a larger one is refused.
pub const CHAIN_CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The broker must accept connections within this time.
pub const BROKER_START_DEADLINE: Duration = Duration::from_secs(10);

/// Clients of the embedded broker; one more is refused.
pub const BROKER_CONNECTIONS_MAX: usize = 1_024;

/// Largest MQTT packet: an answer may have 64 KiB, its JSON and signatures are well below four times
/// that. A client that sends more is disconnected.
pub const BROKER_PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// Messages of one client that the broker takes before it has acknowledged them.
pub const BROKER_INFLIGHT_MAX: usize = 100;

/// A client that connects must send its CONNECT packet within this time.
pub const BROKER_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Each topic filter keeps at most this many segments of this many bytes in memory; the oldest segment is
/// dropped, and with it what a slow or absent subscriber had not read.
pub const BROKER_SEGMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// See [`BROKER_SEGMENT_BYTES_MAX`].
pub const BROKER_SEGMENTS_MAX: usize = 4;

/// Messages that the broker sends to one client in one turn.
pub const BROKER_OUTGOING_PACKETS_MAX: u64 = 200;

/// Installing one tool must be done within this time; the installer is then stopped with an error.
pub const INSTALL_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Bytes that a fault proxy passes on at once.
pub const PROXY_CHUNK_BYTES: usize = 16 * 1024;

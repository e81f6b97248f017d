//! Every limit of the HTTP surface, and what happens at it.

use std::time::Duration;

// CONNECTIONS

/// Most open connections; further ones wait in the listener's backlog until one closes.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Open connections of one address where the configuration does not say; further ones are closed at once.
pub const CONNECTIONS_PER_ADDRESS: u16 = 256;

/// Time in which a client that does not read lets a write wait; then the connection is closed.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for a client to send all of a request's header; then the connection is closed.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// Most bytes of a request's header.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Time for a request, body included, to get its answer; then the client gets 504. Streams are exempt once they have begun,
/// but not the queries that they answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Most requests that are worked on at once, queries that come over a WebSocket or are answered by a stream among them;
/// further ones get 503 at once.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;

/// Time that open requests get to end when the process stops.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// Largest body where no smaller limit is stated; then the client gets 413.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

// PAGES AND QUERIES

/// Most rows of a page.
pub const PAGE_ROWS_MAX: i64 = 1_000;

/// Rows of a page when the client does not say.
pub const PAGE_ROWS_DEFAULT: i64 = 100;

/// Time that PostgreSQL gives one statement of a GraphQL request; then the client gets an error that says so.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Most blocks that are digested at once.
pub const DIGEST_BLOCKS_MAX: u64 = 10_000;

/// Largest GraphQL request body, query and variables together; then the client gets 413.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of selections. Introspection has its own limit, because the standard introspection query is deeper.
pub const QUERY_DEPTH_MAX: usize = 12;

/// Deepest nesting below `__schema` and `__type`.
pub const INTROSPECTION_DEPTH_MAX: usize = 20;

/// Most rows that one query may read, estimated before it runs: the product of `first` along each path, summed up.
pub const QUERY_COST_MAX: u64 = 10_000;

/// Rows that a nested collection without `first` is expected to have when the cost of a query is estimated.
pub const NESTED_ROWS_EXPECTED: u64 = 25;

/// Most root fields of one query, and most aliases in all of it.
pub const QUERY_ROOT_FIELDS_MAX: usize = 16;
pub const QUERY_ALIASES_MAX: usize = 64;

/// Most fields of one query after its fragments are written out.
pub const QUERY_FIELDS_MAX: usize = 1_000;

/// Most directives of one query.
pub const QUERY_DIRECTIVES_MAX: usize = 32;

/// Most queries in one HTTP request. A list of queries is refused whatever its length.
pub const QUERY_BATCH_MAX: usize = 1;

/// Deepest nesting of `and` and `or`, and most conditions in the filters of one query.
pub const FILTER_DEPTH_MAX: usize = 8;
pub const FILTER_CONDITIONS_MAX: usize = 200;

/// Most values in the list of one filter.
pub const FILTER_VALUES_MAX: usize = 1_000;

/// Largest GraphQL answer.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

// LIVE STREAM

/// Most queries and subscriptions of one WebSocket at once; further ones get an error. All the sockets that one address may
/// open by default have fewer than [`STREAM_READERS_MAX`] together.
pub const SOCKET_OPERATIONS_MAX: usize = 16;

/// Events that are kept for readers who are a little behind; a reader that falls farther behind is dropped and resumes with
/// `Last-Event-ID`.
pub const STREAM_EVENTS_KEPT: usize = 1_024;

/// Most readers of the live stream; further ones get 503.
pub const STREAM_READERS_MAX: usize = 5_000;

/// Outbox rows that are read at once.
pub const STREAM_PAGE_ROWS: i64 = 500;

/// How often the outbox is looked at when notifications should come and none does.
pub const STREAM_POLL: Duration = Duration::from_millis(500);
/// How often it is looked at where no notification can come, as on a replica of PostgreSQL.
pub const STREAM_POLL_UNRUNG: Duration = Duration::from_millis(50);
/// How often it is tried whether notifications come after all.
pub const STREAM_LISTEN_RETRY: Duration = Duration::from_secs(5);

/// How often a comment tells the reader of a quiet stream that it is alive.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

/// Time that a reader gets to take an event; then it is dropped.
pub const STREAM_WRITE_TIME_MAX: Duration = Duration::from_secs(20);

/// Events that wait for one reader between the database and its socket.
pub const STREAM_BUFFER: usize = 64;

// UNFINISHED ANSWERS

/// Messages about one request in a second that are looked at; further ones are dropped.
pub const PARTIALS_PER_SECOND_MAX: u32 = 32;

/// Parts that wait for a slow reader; it loses the oldest ones beyond.
pub const PARTIALS_KEPT: usize = 64;

/// Most bytes of text of one operator that the readers of one request get, texts that begin anew included.
pub const PARTIALS_TEXT_BYTES_MAX: usize = 256 * 1024;

/// How long it is believed that a request still waits for its result. A reader's stream is exact nevertheless: it drops
/// parts once it has told the result.
pub const PARTIAL_SUBJECT_AGE_MAX: Duration = Duration::from_secs(1);

/// Requests that are remembered for that time; beyond it they are looked up again.
pub const PARTIAL_SUBJECTS_MAX: usize = 4_096;

// BOARD AND ANSWERS

/// Most messages that one signer may leave about one request; then the board answers 429.
pub const BOARD_MESSAGES_PER_SIGNER_MAX: i64 = 32;

/// Most answers that no delivered result names; then a new one is refused with 429.
pub const ANSWERS_UNCLAIMED_MAX: i64 = 10_000;

/// How long an answer that no delivered result names is kept.
pub const ANSWERS_UNCLAIMED_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often unclaimed answers are swept.
pub const ANSWERS_SWEEP: Duration = Duration::from_secs(60);

// HEALTH

/// A chain is not ready when it is this many blocks behind its head.
pub const LAG_BLOCKS_MAX: i64 = 64;

/// A chain is not ready when its newest block's own time is further back than this, unless the configuration says another
/// limit (60 blocks on Base).
pub const BLOCK_AGE_MAX: Duration = Duration::from_secs(120);

/// The chain of `auspex dev`, which mines when there is something to mine: how old its newest block is says nothing.
pub const DEVELOPMENT_CHAIN_ID: u64 = 31_337;

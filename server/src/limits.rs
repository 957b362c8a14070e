//! Every bound of the server that is not an option, with its reason.

use std::time::Duration;

/// Bytes of entries read from the log at a time to apply them.
pub const APPLY_BYTES_MAX: usize = 1 << 20;

/// Bytes of entries in one message to a peer: several fit between two heartbeats on a slow link, and
/// the 64 of them that openraft lets wait for a follower's disk fit into its memory.
pub const APPEND_BYTES_MAX: usize = 512 << 10;

/// Bytes of proposals waiting for the log. More and clients are told to slow down.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 20;

/// Rows in memory that no checkpoint has moved yet, in percent of the configured bound: from which
/// on a compaction lets the checkpoint go first, applying waits for it, and, as that waits a while
/// only, clients are told to slow down.
pub const RECENT_PERCENT_OVERDUE: usize = 150;
pub const RECENT_PERCENT_WAIT: usize = 300;
pub const RECENT_PERCENT_MAX: usize = 500;

/// What a request may exceed `--max-request-bytes` by before it is not even decoded, as in etcd.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;

/// A request that waits for consensus gives up after this, plus two election timeouts, as in etcd.
pub const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// A member that starts serves clients without a leader after this, as in etcd.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a founder waits for word from others that may run already, as in etcd.
pub const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a member that joins waits for word from the cluster.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Clean shutdown: how long open requests may take before connections are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(1000);

/// Clean shutdown: how long handing leadership to another member may take.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a client that is sent away may take to close its side of the connection.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long opening the engine may make no progress before it is taken for damaged.
pub const ENGINE_STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the housekeeper looks at sizes and free space. It writes nothing by itself.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(500);

/// How long applying a mebibyte waits at a time for a checkpoint to make room in memory, and how
/// often when [`RECENT_PERCENT_MAX`] is passed.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);
pub const ROOM_WAITS_MAX: usize = 30;

/// Time for a client to say whether it speaks HTTP/1 or HTTP/2.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a client to send its request headers over HTTP/1.
pub const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a TLS handshake, as in etcd.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What stands for a time without end where there has to be one: an `Instant` can be so much later.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// HTTP/2 flow control: bytes a client may send ahead on one stream and on one connection.
pub const H2_STREAM_WINDOW: u32 = 1 << 20;
pub const H2_CONNECTION_WINDOW: u32 = 2 << 20;

/// Largest header list a client may send.
pub const H2_HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

/// What is read ahead of an HTTP/1 connection, and so the largest head of a request.
pub const HTTP1_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Streams that a client may have open on one connection, where `--max-concurrent-streams` allows more.
pub const H2_STREAMS_MAX: u32 = 8 << 10;

/// Streams that may be open on all connections together. A stream is open until the end of its answer
/// was written. Beyond, calls are refused; beyond twice as many, connections that open more are ended.
pub const STREAMS_MAX: usize = 16 << 10;

/// Connections of clients, where the process may have files enough.
pub const CONNECTIONS_MAX: usize = 16 << 10;

/// Connections of other members, each of which has a few.
pub const PEER_CONNECTIONS_MAX: usize = 256;

/// How long a connection of another member may be silent before it is asked for an answer, and how long
/// that may take: one of a member that lost its power must not hold its place for hours.
pub const PEER_PING_INTERVAL: Duration = Duration::from_secs(5);
pub const PEER_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Files that connections of clients leave to the log, the engine, snapshots and other members.
pub const FILES_RESERVED: u64 = 512;

/// What may have come, on all connections together, of messages that are not whole, and how much of
/// each is not counted because the number of calls bounds it. More and clients are told to slow down.
pub const UNFINISHED_BYTES_MAX: usize = 64 << 20;
pub const UNFINISHED_BYTES_FREE: usize = 4 << 10;

/// What streams may keep, all together, of the buffers they read their messages into, each of which
/// stays as large as its largest message; how much of each is not counted, as streams begin with it.
pub const READ_BUFFERS_BYTES_MAX: usize = 32 << 20;
pub const READ_BUFFER_BYTES_FREE: usize = 8 << 10;

/// Time for a message to come to its end.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers that were read and wait to be sent, all together, and how much of one the HTTP library is
/// given at a time. More and clients are told to slow down, but the first whatever its size.
pub const ANSWER_BYTES_MAX: usize = 128 << 20;
pub const ANSWER_PIECE_BYTES: usize = 16 << 10;

/// What of answers the HTTP library may have, all together, without a thought. Beyond, it has one
/// piece of each at a time.
pub const SENDING_BYTES_MAX: usize = 32 << 20;

/// What the watchers of all streams may take, and what one takes without its keys: 780 bytes were
/// measured. A Kubernetes control plane has fewer than 20,000, with keys of up to 200 bytes.
pub const WATCHER_BYTES_MAX: usize = 128 << 20;
pub const WATCHER_BYTES: usize = 1 << 10;

/// What is left of a watcher that a compaction ended, until its client ends it, too.
pub const ENDED_WATCHER_BYTES: usize = 64;

/// Snapshots that clients may be reading at a time.
pub const SNAPSHOT_READERS_MAX: usize = 16;

/// A client that has not made room for a piece of its answer for so long loses the rest of it, should
/// others need what it takes.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Free disk space that snapshot files and checkpoints leave alone, besides the log's next segment.
pub const LOG_MARGIN_BYTES: u64 = 2 << 20;

/// How long after a snapshot file that had no room, or that a member refused, another is tried.
pub const SNAPSHOT_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Largest message a member takes from another: a batch of entries, or one entry of the largest
/// request that any configuration here allows.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Bytes of proposals that a member sends on to the leader in one message.
pub const FORWARD_BYTES_MAX: usize = 1 << 20;

/// How long a member's answer to entries may take, its disk included, before they are sent again.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the next leader may take to say that it campaigns.
pub const TRANSFER_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// One piece of a snapshot file on its way to a member, and how many wait for the network.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;
pub const SNAPSHOT_PIECES_AHEAD: usize = 4;

/// How long a member that receives a snapshot file waits for the next piece of it: a sender that lost
/// its power never says so, and what came of the file takes room until then.
pub const SNAPSHOT_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long after a compaction its hash is compared: the other members are about as far then.
pub const COMPACTION_CHECK_DELAY: Duration = Duration::from_secs(1);

/// How long another member may take to hash its data.
pub const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a member looks how much of the quota is used.
pub const QUOTA_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the leader looks which leases have ended, how many it takes up at once, and how many of
/// them it revokes at the same time, as in etcd: clients' writes pass between them.
pub const LEASE_LOOK_INTERVAL: Duration = Duration::from_millis(500);
pub const LEASES_ENDED_MAX: usize = 500;
pub const LEASE_REVOKES_MAX: usize = 16;

/// After this a lease that ended and is still there is revoked once more.
pub const LEASE_REVOKE_RETRY: Duration = Duration::from_secs(3);

/// How often what is left of a long lease is noted in the log, how often the leader looks for such
/// leases, and how many it notes at once.
pub const LEASE_NOTE_INTERVAL: Duration = Duration::from_secs(300);
pub const LEASE_NOTE_LOOK_INTERVAL: Duration = Duration::from_secs(10);
pub const LEASE_NOTES_MAX: usize = 1000;

/// How long a question about a lease waits that the leader did not answer, as in etcd.
pub const LEASE_ASK_AGAIN: Duration = Duration::from_millis(50);

/// The longest name of a user or a role: the longest key of a bbolt file. etcd ends over a longer one.
pub const NAME_BYTES_MAX: usize = 32 << 10;

/// Passwords that are hashed at the same time, and how many wait for their turn before clients are told
/// to slow down: one takes a core for some 50 ms at the default cost.
pub const PASSWORDS_AT_ONCE: usize = 2;
pub const PASSWORDS_WAITING_MAX: usize = 256;

/// How long a call waits for this member to hear of the token it was made with.
pub const TOKEN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Keepalives of one stream that wait for their answers.
pub const LEASE_KEEPALIVES_AHEAD: usize = 128;

/// Messages of a stream that the JSON gateway reads ahead of the call.
pub const GATEWAY_MESSAGES_AHEAD: usize = 4;

/// What clients can make a member hold beyond what it needs for its data, with what a stream and a
/// connection cost without what is counted: `tests/it/abuse` attacks, and allows this and the rest.
pub const CLIENT_BYTES_MAX: usize = UNFINISHED_BYTES_MAX
    + SENDING_BYTES_MAX
    + READ_BUFFERS_BYTES_MAX
    + ANSWER_BYTES_MAX
    + WATCHER_BYTES_MAX
    + PROPOSAL_BYTES_MAX
    + 2 * STREAMS_MAX * STREAM_BYTES
    + CONNECTIONS_MAX * CONNECTION_BYTES;
const STREAM_BYTES: usize = 8 << 10;
const CONNECTION_BYTES: usize = 20 << 10;
const _: () = assert!(CLIENT_BYTES_MAX <= 1024 << 20);

//! Every limit that is not a setting, in one place, with its unit in its name.
//! Where a limit is part of the public contract, the API's description repeats it.

/// An event's `data` with its envelope, as sent to us.
pub const EVENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A batch of events, as sent to us.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events in one batch.
pub const BATCH_EVENTS_MAX: usize = 1000;
/// Any other request to the API.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bodies of requests that are under way at the same time, over all connections.
/// One whose length is not told counts as the longest that its route takes.
pub const REQUEST_BODIES_BYTES_MAX: u32 = 128 * 1024 * 1024;
/// How deep JSON may nest. Beyond it, parsers in receivers give up too.
pub const JSON_DEPTH_MAX: usize = 100;

/// Names of organizations, sources and event types, and everything else that
/// identifies something: `event_id`, `external_id`, `subject`, `Idempotency-Key`.
pub const NAME_CHARS_MAX: usize = 255;
/// A description.
pub const DESCRIPTION_CHARS_MAX: usize = 1024;
/// `metadata`, as compact JSON.
pub const METADATA_BYTES_MAX: usize = 4096;
/// How deep the tree of organizations may be, the root counted.
pub const ORGANIZATION_DEPTH_MAX: usize = 16;

/// A subscription's URL, as written (with its placeholders).
pub const URL_CHARS_MAX: usize = 2048;
/// A URL after placeholders were filled in.
pub const RENDERED_URL_BYTES_MAX: usize = 8192;
/// Custom headers of one subscription.
pub const HEADERS_MAX: usize = 32;
/// One custom header's value.
pub const HEADER_VALUE_BYTES_MAX: usize = 4096;
/// A body template.
pub const BODY_TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Entries of a `form` or `query` template.
pub const TEMPLATE_ENTRIES_MAX: usize = 64;
/// One `form` or `query` value.
pub const TEMPLATE_VALUE_BYTES_MAX: usize = 4096;
/// Placeholders in a subscription's URL, body, form and query together.
pub const PLACEHOLDERS_MAX: usize = 256;
/// A request body after placeholders were filled in.
pub const RENDERED_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Patterns in `events`.
pub const PATTERNS_MAX: usize = 200;
/// Source ids in a `scope` that lists them.
pub const SCOPE_SOURCES_MAX: usize = 1000;
/// Names in an event type's `fields`.
pub const EVENT_TYPE_FIELDS_MAX: usize = 256;
/// Conditions in a `filter`.
pub const CONDITIONS_MAX: usize = 32;
/// Files of declarations in their folder.
pub const DECLARED_FILES_MAX: usize = 1000;
/// Declarations of all files together, and as JSON in a request for their plan.
pub const DECLARED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Values of one `in` condition.
pub const CONDITION_VALUES_MAX: usize = 100;
/// User ids in `notify`.
pub const NOTIFY_MAX: usize = 64;
/// A certificate chain or key in PEM.
pub const PEM_BYTES_MAX: usize = 32 * 1024;
/// A user name, password, token, client id or client secret.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;
/// The largest `failure_limit`.
pub const FAILURE_LIMIT_MAX: u32 = 100_000;
/// The largest `delivery.concurrency` of one lane.
pub const CONCURRENCY_MAX: u32 = 1024;
/// The largest `delivery.rate_per_second`.
pub const RATE_PER_SECOND_MAX: f64 = 1_000_000.0;

/// Signing secrets valid at the same time.
pub const SECRETS_VALID_MAX: usize = 5;
/// The longest `overlap` of a rotation.
pub const ROTATION_OVERLAP_MAX: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);
/// How long publishing stays idempotent.
pub const IDEMPOTENCY_WINDOW: std::time::Duration = std::time::Duration::from_secs(72 * 3600);

/// Rows a list answers with, when not told and at most.
pub const PAGE_DEFAULT: usize = 50;
/// See [`PAGE_DEFAULT`].
pub const PAGE_MAX: usize = 500;
/// Rows one list request looks at: a page may be short and still have a next one.
pub const PAGE_SCAN_MAX: usize = 5_000;
/// Data of events that one page holds, but for its last event's: a page may be
/// short and still have a next one.
pub const PAGE_DATA_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A store's file is compacted where less than this part of it is live: one in so many.
pub const COMPACT_LIVE_PART: u64 = 4;
/// From which size of its file on a store is a large one, which is not to be read as a
/// whole after a crash: the database reads a smaller one in less than half a second.
pub const LARGE_STORE_BYTES: u64 = 256 * 1024 * 1024;
/// Faults of a store that are told one by one; of the others, how many there are.
pub const FAULTS_TOLD_MAX: usize = 100;
/// Bytes of a backup that are handed on at a time, or one row more.
pub const BACKUP_PART_BYTES: usize = 256 * 1024;
/// A key or a value in a backup.
pub const BACKUP_ROW_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory for pages of the store by which a backup is proved.
pub const PROOF_CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How long one backup may take: while it is read, the file's pages are not used again.
pub const BACKUP_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3600);
/// How often a backup that waits for its reader looks whether the store needs the room,
/// or is to be opened anew.
pub const BACKUP_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);
/// Bytes of a restore that share one commit.
pub const RESTORE_COMMIT_BYTES: usize = 16 * 1024 * 1024;
/// Rows that bulk work changes in one commit.
pub const BULK_ROWS_MAX: usize = 1000;
/// Deliveries that one call of replay makes.
pub const REPLAY_MAX: usize = 10_000;
/// Replays and cancellations of many that are under way at the same time; of one
/// subscription one.
pub const BULK_JOBS_MAX: usize = 32;

/// What is read of a receiver's answer.
pub const RESPONSE_READ_BYTES_MAX: usize = 64 * 1024;
/// What is kept of the answer to a delivery's last attempt.
pub const RESPONSE_KEPT_BYTES_MAX: usize = 16 * 1024;
/// What is kept of the answers to its earlier attempts.
pub const RESPONSE_KEPT_EARLIER_BYTES_MAX: usize = 1024;
/// The head of a receiver's answer.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a receiver's answer.
pub const RESPONSE_HEADERS_MAX: usize = 100;
/// What a receiver's answer in chunks may have around its data: sizes, extensions, trailers.
pub const CHUNK_FRAMING_BYTES_MAX: usize = 64 * 1024;
/// A request's body up to which it is written in one piece with the head.
pub const COPIED_BODY_BYTES_MAX: usize = 16 * 1024;
/// An attempt's `detail`.
pub const DETAIL_CHARS_MAX: usize = 300;

/// Upper bounds that commits are counted by: what shared one.
pub const COMMIT_ITEMS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// What the command line reads of the daemon's answer.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the command line waits for the daemon's answer.
pub const CLIENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long a shell waits for the names it completes, the daemon being slow or away.
pub const COMPLETION_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(700);
/// Names that a shell is shown.
pub const COMPLETIONS_MAX: usize = 500;
/// How often `--watch` looks, at most.
pub const WATCH_EVERY_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// Connections that the command line's own receiver serves at the same time.
pub const RECEIVER_CONNECTIONS_MAX: usize = 256;
/// Requests that wait for that receiver's owner.
pub const RECEIVER_QUEUE_MAX: usize = 64;
/// How long that receiver waits for a connection's next request, and for its handshake.
pub const RECEIVER_IDLE: std::time::Duration = std::time::Duration::from_secs(120);

/// Consecutive failures of the endpoint that trip its lane.
pub const TRIP_AFTER_FAILURES: u32 = 5;
/// The pause before a tripped lane's first probe.
pub const PROBE_DELAY_FIRST: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest pause between probes.
pub const PROBE_DELAY_MAX: std::time::Duration = std::time::Duration::from_secs(300);
/// How long an attempt is put off that could not be made: its event was not to be
/// read, or its subscription had just been disabled.
pub const NOT_MADE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// How far apart the store is asked to end what a disabled lane holds past its horizon.
pub const EXPIRY_ASKED_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// Outcomes of a lane that wait for their commit: more, and it starts no attempt.
pub const LANE_UNSETTLED_MAX: usize = 1024;
/// Heads of a lane held in memory, unless four times its concurrency is more.
pub const LANE_HEADS_MAX: usize = 64;
/// Room for heads that a lane keeps however few it holds.
pub const LANE_HEADS_ROOM_KEPT: usize = 8;
/// Lanes whose rows are read at the same time.
pub const LOADS_AT_ONCE_MAX: usize = 16;
/// Data of events that are read together with the heads of a backlog.
pub const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Bytes of events held in memory because they were just accepted, and of those read
/// with their lanes' rows; with a small cache of the store less.
pub const EVENTS_HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is encrypted anew in one commit after a change of keys, beside [`BULK_ROWS_MAX`].
pub const RESEAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A file that holds an encryption key.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;
/// Commands waiting for the store's writer.
pub const WRITER_QUEUE_MAX: usize = 4096;
/// Bytes of events waiting for the store's writer. More than [`BATCH_BYTES_MAX`].
pub const WRITER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long outcomes wait for a commit that others need. A crash meanwhile repeats the
/// attempts.
pub const OUTCOMES_WAIT_MAX: std::time::Duration = std::time::Duration::from_millis(50);
/// Outcomes that wait no longer for others. Fewer than [`LANE_UNSETTLED_MAX`], or a lane
/// alone would stop and wait for them.
pub const OUTCOMES_WAITING_MAX: usize = 256;
const _: () = assert!(OUTCOMES_WAITING_MAX < LANE_UNSETTLED_MAX);
/// Commands in one commit that make the next wait for company.
pub const GATHERING_MIN: usize = 8;
/// From the beginning of such a commit to that of the next, at least.
pub const GATHERING_INTERVAL: std::time::Duration = std::time::Duration::from_millis(1);
/// Commands that share one commit.
pub const WRITER_GROUP_MAX: usize = 1000;
/// Attempts kept of one delivery; the oldest go first.
pub const ATTEMPTS_KEPT_MAX: u32 = 100;
/// Notices that wait for the engine: more, and the store's writer waits for it.
pub const NOTICE_QUEUE_MAX: usize = 1024;

/// Addresses of a host that are considered.
pub const RESOLVED_ADDRESSES_MAX: usize = 16;
/// Lookups of host names under way. Each occupies a thread until the resolver
/// answers, also when nobody waits any more; half of the runtime's stay free.
pub const LOOKUPS_MAX: usize = 256;
/// Where a host has several addresses, each gets at least this much of
/// `connect_timeout`.
pub const CONNECT_SHARE_MIN: std::time::Duration = std::time::Duration::from_secs(2);
/// The head of a proxy's answer.
pub const PROXY_HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long the body of an answer is waited for once its head has come.
pub const RESPONSE_BODY_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
/// Idle connections kept to all receivers.
pub const IDLE_CONNECTIONS_MAX: usize = 4096;
/// Idle connections kept to one receiver.
pub const IDLE_CONNECTIONS_PER_ENDPOINT_MAX: usize = 256;
/// How often idle connections are looked through, at most.
pub const IDLE_SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// How far apart at most: connections that their receivers closed are found then.
pub const IDLE_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);
/// Prepared TLS configurations; each holds its own copy of the trusted authorities.
pub const TLS_CONFIGS_MAX: usize = 128;
/// Endpoints of which it is held until when their certificate is valid.
pub const CERTIFICATES_SEEN_MAX: usize = 10_000;
/// Lanes whose OAuth 2.0 token is held.
pub const TOKENS_MAX: usize = 4096;
/// A token endpoint's answer.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// An access token.
pub const ACCESS_TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How long a token is used whose answer does not say.
pub const TOKEN_LIFETIME_DEFAULT: std::time::Duration = std::time::Duration::from_secs(300);
/// The longest that a token is used.
pub const TOKEN_LIFETIME_MAX: std::time::Duration = std::time::Duration::from_secs(86_400);
/// How long before its end a token is fetched anew; at most a tenth of its life.
pub const TOKEN_MARGIN_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// What a full disk gives back, so that the store can be opened and drained: see
/// `store/space.rs`.
pub const BALLAST_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The share of its file system that the ballast takes at most.
pub const BALLAST_SHARE: u64 = 16;

/// What the write-ahead log may take before the database is synced.
pub const WAL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The share of the ballast that the log takes at most: on a small disk that is full, what
/// it holds should find room in the database once the ballast is gone. It takes more there
/// where its rows lie far apart.
pub const WAL_SHARE: u64 = 2;
/// Pending rows that wait beside their table for who reads; more go into it at once.
pub const YOUNG_ROWS_MAX: usize = 16 * 1024;
/// After a log that could not be written, so many commits are the database's own before it
/// is tried again.
pub const WAL_RESTS_FOR_COMMITS: u32 = 1000;
/// A commit that changes more is the database's own: it would be written twice.
pub const WAL_RECORD_BYTES_MAX: usize = 128 * 1024;
/// By how much the log's file grows at a time.
pub const WAL_GROWTH_BYTES: u64 = 64 * 1024;

/// Connections to all of our own listeners together; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 1024;
/// A request's head, and the idle time before the next one on a connection.
pub const REQUEST_HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// A request's line and headers; of these at most 100, which is hyper's own limit.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 * 1024;
/// A request's whole body, from its first byte to its last.
pub const REQUEST_BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a caller may take nothing of its answer.
pub const RESPONSE_STALL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// A caller's own `x-request-id`.
pub const REQUEST_ID_CHARS_MAX: usize = 64;
/// The largest `requests_per_second` of a key.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;
/// Test events that one key has sent in [`TRIALS_WINDOW_SECS`], verifications among them.
pub const TRIALS_MAX: u32 = 60;
/// What [`TRIALS_MAX`] is counted in.
pub const TRIALS_WINDOW_SECS: u64 = 60;
/// Keys whose requests are counted at the same time, for each limit.
pub const QUOTA_KEYS_MAX: usize = 4096;
/// Attempts at an update without `If-Match` that others keep overtaking.
pub const UPDATE_TRIES_MAX: usize = 4;

/// The largest `[dialects.peridio] webhooks_max`.
pub const PERIDIO_WEBHOOKS_MAX: u64 = 100;
/// Rows that a list of Peridio's API answers with, when not told and at most.
pub const PERIDIO_PAGE_DEFAULT: usize = 10;
/// See [`PERIDIO_PAGE_DEFAULT`].
pub const PERIDIO_PAGE_MAX: usize = 100;
/// Clauses of a search in Peridio's API.
pub const PERIDIO_CLAUSES_MAX: usize = 5;

/// What the journal is given of one field; longer ones are cut.
pub const JOURNAL_VALUE_BYTES_MAX: usize = 16 * 1024;

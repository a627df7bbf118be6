"""Every bound of the program: its name carries the unit, its comment the reason."""

# -- wire ------------------------------------------------------------------------------------------------------------
LINE_BYTES_MAX = 64 * 1024 * 1024  # a prompt with several images fits; more is a broken or hostile client
OUTPUT_QUEUE_BYTES_MAX = 8 * 1024 * 1024  # a client that stops reading holds back its own events, not our memory
READ_CHUNK_BYTES = 64 * 1024  # a pipe's default capacity
REQUESTS_IN_FLIGHT_MAX = 1_000  # per connection; more is a client in a loop
EOF_GRACE_MS = 1_000  # clients kill two seconds after they closed stdin; with the drain below we are gone by then
SHUTDOWN_WRITE_MS = 300  # at exit: for a last word to a database that somebody else has locked
WRITER_DRAIN_MS = 300  # at exit: a client that reads is done by then, one that does not never will be
PROGRESS_HEARTBEAT_MS = 2_000  # clients whose time-out progress resets live from three seconds up
PROGRESS_INTERVAL_MS = 200  # progress is for people; more than five a second only costs
SUBSCRIPTION_EVENTS_MAX = 1_000  # per follower; beyond it the rows are read back from the database
RESULT_TEXT_BYTES_MAX = 8 * 1024 * 1024  # of one tool result
ORIGINS_MAX = 10_000  # remembered (session, creating request) pairs of a connection

# -- store -----------------------------------------------------------------------------------------------------------
STORE_BUSY_MS = 5_000  # how long a caller waits for the write lock before it is told `store_busy`
LOCK_POLL_MS_MAX = 2  # between two tries for a lock that another process holds
BATCH_OPS_MAX = 256  # of one commit: bounds what a rollback repeats and how long the lock is held
WAL_CHECKPOINT_BYTES = 4 * 1024 * 1024  # 1,000 pages, SQLite's own default, applied by us under the file lock
BACKUP_PAGES_AT_ONCE = 1_000  # 4 MiB between two words of progress, and two looks for a cancellation
SESSIONS_CHECKED_AT_ONCE = 1_000  # by one query of `db check`, whose reading transaction holds the WAL back meanwhile
FINDINGS_SHOWN = 5  # rows of one finding of `db check`; the rest is counted
PRUNE_ROWS_AT_ONCE = 2_000  # of one commit, unless a session has more: some 50 ms in which nobody else can write
SCHEMA_POLL_MS = 20  # between two looks whether an upgrade of the database is over
READERS_MAX = 3  # connections; a page is read in under a millisecond
SEQ_MAX = 2**63 - 1  # what an integer of the database holds
PAGE_ROWS_MAX = 1_000  # of one answer to a reading caller
PAGE_ROWS_DEFAULT = 25
SEARCH_CHARS_MAX = 1_000  # of what is searched for
SEARCH_WORDS_MAX = 32  # of one search; more is no question of a person
SEARCH_HITS_MAX = 1_000  # the newest ones: what is ranked or gathered by session is chosen among them
QUERY_ROWS_MAX = 1_000  # shown of a person's own query; who wants more says LIMIT, or asks SQLite itself
TRANSCRIPT_ITEMS_MAX = 100_000  # of one session, the newest; a page of more is read by nobody
TRANSCRIPT_OUTPUT_CHARS_MAX = 16_384  # of one call: its first and last part tell what happened; the row has all of it

# -- worker ----------------------------------------------------------------------------------------------------------
HEARTBEAT_MS = 5_000  # a sixth of the lease: five may be lost before anyone doubts the worker
LEASE_MS = 30_000  # a worker silent for longer may be replaced
TURNS_QUEUED_MAX = 100  # behind one turn; more is a client in a loop
CRASHES_MAX = 3  # a turn that took its worker down so often is given up
RESUME_AGE_MS_MAX = 15 * 60_000  # nothing goes on unattended that nobody has thought of for longer
FOREIGN_POLL_MS = 50  # how soon another process's commits are noticed
STORE_RETRY_MS = 1_000  # between two tries to end a turn while the disk refuses
TURNS_RUNNING_MAX = 1_000  # in one process; the rest stays `ready`

# -- agent -----------------------------------------------------------------------------------------------------------
DELTA_STORE_MS = 50  # how often pieces of an unfinished item reach the database
SSE_EVENT_BYTES_MAX = 16 * 1024 * 1024  # one item with everything in it; more is a broken endpoint
RESPONSE_BYTES_MAX = 256 * 1024 * 1024  # of one model response
ERROR_BODY_BYTES_MAX = 64 * 1024  # of an error answer that is shown
CONNECT_TIMEOUT_MS = 30_000  # TCP and TLS to the model endpoint
RETRY_WAIT_MS_MAX = 60_000  # one wait of our own choosing
RETRY_AFTER_MS_MAX = 300_000  # one wait that the server asked for
TOOL_CALLS_PER_RESPONSE_MAX = 128  # a model that asks for more is in a loop
SHELL_TIMEOUT_MS = 120_000  # builds and test runs fit; the model may ask for more
SHELL_TIMEOUT_MS_MAX = 3_600_000  # of one command
SHELL_KILL_GRACE_MS = 2_000  # between SIGTERM and SIGKILL to the process group
SHELL_DRAIN_MS = 1_000  # after the leader exited, for what is still in the pipes
TOOL_OUTPUT_BYTES_MAX = 10 * 1024  # of one call, as the model sees it
TOOL_OUTPUT_BYTES_MIN = 256  # of one call: less has no room for the note that says what was left out
TOOL_OUTPUT_STORED_BYTES_MAX = 1024 * 1024  # of one call, as the database keeps it
EXEC_EVENT_STREAM_CHARS_MAX = 5_120  # of stdout and of stderr in an `exec_command_end` event, as the original cuts
OUTPUT_DELTA_BYTES_MAX = 8_192  # of one `exec_command_output_delta`
OUTPUT_STREAMED_BYTES_MAX = 1024 * 1024  # of one call, as deltas; the rest is only kept

# -- patches ---------------------------------------------------------------------------------------------------------
PATCH_BYTES_MAX = 2 * 1024 * 1024  # of the patch text; a model writes a hundredth of it in one go
PATCH_FILES_MAX = 500  # sections of one patch; each may cost open descriptors and a directory's lock
PATCH_PATH_BYTES_MAX = 4096  # of one name in a patch; no kernel takes longer ones, and resolving them takes its square
PATCH_FILE_BYTES_MAX = (
    8 * 1024 * 1024
)  # of a file that is updated, before and after; what is larger is data, not source
PATCH_TOTAL_BYTES_MAX = 64 * 1024 * 1024  # of all files of one patch, which are held in memory at once
PATCH_KEPT_BYTES_MAX = 32 * 1024 * 1024  # of earlier contents kept of files that a patch deletes or overwrites unread
PATCH_PATHS_NAMED_MAX = 50  # of a patch that was cut off, as the model is told, which has written all of them
TURN_FILES_BYTES_MAX = 16 * 1024 * 1024  # of earlier contents kept for a turn's diff: two of the largest files fit
PATCH_WORK_MAX = 50_000_000  # line comparisons of one patch, about two seconds; only a hostile patch needs more
PATCH_QUOTED_CHARS_MAX = 4_000  # of a patch's own lines in a message to the model, which has written them
PATCH_LOOSE_NOTES_MAX = 10  # lines of a success text that tell where only a loose match was found
PATCH_REMOVAL_MS = 500  # how long a patch that was just killed may take to let go of what it has laid beside its files
DIFF_LINES_MAX = 5_000  # changed in one place, without a line in common that is found once: shown as one block
DIFF_EDITS_MAX = (
    500  # insertions and deletions that are searched for the shortest way in one place; its cost is their square
)
DIFF_BYTES_MAX = 4 * 1024 * 1024  # of one turn diff; it is an event, and a person reads it

# -- moving sessions -------------------------------------------------------------------------------------------------
IMPORT_LINE_BYTES_MAX = 2 * LINE_BYTES_MAX  # the largest message that was ever accepted, escaped once more, fits
ROLLOUT_BYTES_MAX = 512 * 1024 * 1024  # of one file of Codex, which is held in memory; larger ones are damaged
IMPORT_SESSIONS_MAX = 50  # on their way to the database at once: they share a commit
IMPORT_BYTES_MAX = 32 * 1024 * 1024  # of files on their way at once, but for one that is larger by itself

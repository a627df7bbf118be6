"""The first schema: sessions, inputs, turns, items, events, deltas, tool calls, approvals, model requests, workers.

Landed and frozen: `tests/migration` compares this file with its recorded hash. Changes go into a new revision.
"""

from textwrap import dedent

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE sessions (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      origin TEXT NOT NULL,
      title TEXT,
      model TEXT NOT NULL,
      model_provider TEXT NOT NULL,
      cwd TEXT NOT NULL,
      approval_policy TEXT NOT NULL,
      sandbox_mode TEXT NOT NULL,
      settings TEXT NOT NULL,
      latest_plan TEXT,
      forked_from_id INTEGER,
      epoch INTEGER DEFAULT 0 NOT NULL,
      turn_count INTEGER DEFAULT 0 NOT NULL,
      next_seq INTEGER DEFAULT 1 NOT NULL,
      next_item_seq INTEGER DEFAULT 1 NOT NULL,
      active_turn_id INTEGER,
      created_at_ms INTEGER NOT NULL,
      updated_at_ms INTEGER NOT NULL,
      archived_at_ms INTEGER,
      PRIMARY KEY (id),
      CONSTRAINT sessions_seq_positive CHECK (next_seq >= 1 AND next_item_seq >= 1),
      UNIQUE (public_id),
      FOREIGN KEY(forked_from_id) REFERENCES sessions (id) ON DELETE SET NULL
    ) STRICT
    """,
    """
    CREATE INDEX sessions_by_fork ON sessions (forked_from_id) WHERE forked_from_id IS NOT NULL
    """,
    """
    CREATE INDEX sessions_by_update ON sessions (updated_at_ms, id)
    """,
    """
    CREATE TABLE workers (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      pid INTEGER NOT NULL,
      pid_started_at TEXT NOT NULL,
      boot_id TEXT NOT NULL,
      pid_namespace TEXT NOT NULL,
      uid INTEGER NOT NULL,
      codex_home TEXT NOT NULL,
      version TEXT NOT NULL,
      started_at_ms INTEGER NOT NULL,
      heartbeat_at_monotonic_ms INTEGER NOT NULL,
      stopped_at_ms INTEGER,
      PRIMARY KEY (id),
      UNIQUE (public_id)
    ) STRICT
    """,
    """
    CREATE TABLE approvals (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      session_id INTEGER NOT NULL,
      turn_id INTEGER NOT NULL,
      tool_call_id INTEGER,
      kind TEXT NOT NULL,
      state TEXT NOT NULL,
      question TEXT NOT NULL,
      fallback TEXT NOT NULL,
      decision TEXT,
      decided_by TEXT,
      created_at_ms INTEGER NOT NULL,
      decided_at_ms INTEGER,
      PRIMARY KEY (id),
      CONSTRAINT approvals_state_known CHECK (state IN ('pending', 'approved', 'denied', 'withdrawn')),
      CONSTRAINT approvals_decided_iff_terminal CHECK ((decided_at_ms IS NOT NULL) = (state IN ('approved', 'denied', 'withdrawn'))),
      UNIQUE (public_id),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE INDEX approvals_by_turn ON approvals (session_id, turn_id)
    """,
    """
    CREATE INDEX approvals_pending ON approvals (session_id, id) WHERE state = 'pending'
    """,
    """
    CREATE TABLE deltas (
      session_id INTEGER NOT NULL,
      turn_id INTEGER NOT NULL,
      attempt INTEGER NOT NULL,
      item INTEGER NOT NULL,
      "offset" INTEGER NOT NULL,
      type TEXT NOT NULL,
      text TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (session_id, turn_id, attempt, item, "offset"),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE events (
      session_id INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      turn_id INTEGER,
      type TEXT NOT NULL,
      msg TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (session_id, seq),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE inputs (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      session_id INTEGER NOT NULL,
      turn_id INTEGER,
      message_id TEXT,
      opens_session INTEGER DEFAULT 0 NOT NULL,
      mode TEXT NOT NULL,
      outcome TEXT NOT NULL,
      content TEXT NOT NULL,
      content_hash TEXT NOT NULL,
      item TEXT,
      created_at_ms INTEGER NOT NULL,
      delivered_at_ms INTEGER,
      withdrawn_at_ms INTEGER,
      PRIMARY KEY (id),
      CONSTRAINT inputs_accepted_once UNIQUE (session_id, message_id),
      CONSTRAINT inputs_mode_known CHECK (mode IN ('start', 'queue', 'steer', 'create')),
      CONSTRAINT inputs_outcome_known CHECK (outcome IN ('started', 'queued', 'steered', 'created')),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX inputs_open_one_session ON inputs (message_id) WHERE opens_session = 1 AND message_id IS NOT NULL
    """,
    """
    CREATE TABLE items (
      id INTEGER NOT NULL,
      session_id INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      turn_id INTEGER,
      epoch INTEGER DEFAULT 0 NOT NULL,
      type TEXT NOT NULL,
      role TEXT,
      payload TEXT NOT NULL,
      text TEXT GENERATED ALWAYS AS (coalesce(json_extract(payload, '$.content[0].text'), json_extract(payload, '$.arguments'), json_extract(payload, '$.output'))) VIRTUAL,
      partial INTEGER DEFAULT 0 NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (id),
      CONSTRAINT items_in_order UNIQUE (session_id, seq),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE TABLE model_requests (
      id INTEGER NOT NULL,
      session_id INTEGER NOT NULL,
      turn_id INTEGER NOT NULL,
      attempt INTEGER NOT NULL,
      model TEXT NOT NULL,
      model_provider TEXT NOT NULL,
      started_at_ms INTEGER NOT NULL,
      first_event_at_ms INTEGER,
      ended_at_ms INTEGER NOT NULL,
      retries INTEGER NOT NULL,
      input_tokens INTEGER,
      cached_input_tokens INTEGER,
      output_tokens INTEGER,
      reasoning_output_tokens INTEGER,
      total_tokens INTEGER,
      error TEXT,
      PRIMARY KEY (id),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE INDEX model_requests_by_turn ON model_requests (session_id, turn_id)
    """,
    """
    CREATE TABLE tool_calls (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      session_id INTEGER NOT NULL,
      turn_id INTEGER NOT NULL,
      item_id INTEGER,
      output_item_id INTEGER,
      call_id TEXT NOT NULL,
      name TEXT NOT NULL,
      arguments TEXT NOT NULL,
      state TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      pid INTEGER,
      pid_started_at TEXT,
      exit_code INTEGER,
      output TEXT,
      proposed_at_ms INTEGER NOT NULL,
      started_at_ms INTEGER,
      ended_at_ms INTEGER,
      PRIMARY KEY (id),
      CONSTRAINT tool_calls_state_known CHECK (state IN ('proposed', 'approved', 'denied', 'started', 'succeeded', 'failed', 'unknown', 'aborted')),
      CONSTRAINT tool_calls_ended_iff_terminal CHECK ((ended_at_ms IS NOT NULL) = (state IN ('denied', 'succeeded', 'failed', 'unknown', 'aborted'))),
      CONSTRAINT tool_calls_started_if_run CHECK (state NOT IN ('started', 'succeeded', 'failed', 'unknown') OR started_at_ms IS NOT NULL),
      UNIQUE (public_id),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE INDEX tool_calls_by_turn ON tool_calls (session_id, turn_id)
    """,
    """
    CREATE TABLE turns (
      id INTEGER NOT NULL,
      public_id TEXT NOT NULL,
      session_id INTEGER NOT NULL,
      number INTEGER NOT NULL,
      state TEXT NOT NULL,
      attempt INTEGER DEFAULT 0 NOT NULL,
      crashes INTEGER DEFAULT 0 NOT NULL,
      worker_id INTEGER,
      accepted_by_id INTEGER,
      submission_id TEXT NOT NULL,
      settings TEXT,
      trace_context TEXT,
      interrupt_requested_at_ms INTEGER,
      retry_at_ms INTEGER,
      end_reason TEXT,
      error_kind TEXT,
      error_message TEXT,
      last_agent_message TEXT,
      created_at_ms INTEGER NOT NULL,
      started_at_ms INTEGER,
      ended_at_ms INTEGER,
      PRIMARY KEY (id),
      CONSTRAINT turns_numbered UNIQUE (session_id, number),
      CONSTRAINT turns_state_known CHECK (state IN ('queued', 'ready', 'running', 'waiting', 'completed', 'failed', 'interrupted')),
      CONSTRAINT turns_worker_iff_running CHECK ((worker_id IS NOT NULL) = (state IN ('running'))),
      CONSTRAINT turns_ended_iff_terminal CHECK ((ended_at_ms IS NOT NULL) = (state IN ('completed', 'failed', 'interrupted'))),
      CONSTRAINT turns_reason_iff_terminal CHECK ((end_reason IS NOT NULL) = (state IN ('completed', 'failed', 'interrupted'))),
      CONSTRAINT turns_error_iff_failed CHECK ((error_message IS NOT NULL) = (state IN ('failed'))),
      CONSTRAINT turns_started_if_worked_on CHECK (state NOT IN ('running', 'waiting', 'completed') OR started_at_ms IS NOT NULL),
      CONSTRAINT turns_counts_positive CHECK (attempt >= 0 AND crashes >= 0),
      UNIQUE (public_id),
      FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE,
      FOREIGN KEY(worker_id) REFERENCES workers (id)
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX turns_one_holds_session ON turns (session_id) WHERE state IN ('ready', 'running', 'waiting')
    """,
    """
    CREATE INDEX turns_queued ON turns (session_id, id) WHERE state = 'queued'
    """,
    """
    CREATE INDEX turns_ready ON turns (id) WHERE state = 'ready'
    """,
    """
    CREATE TRIGGER turns_legal_moves BEFORE UPDATE OF state ON turns
    WHEN OLD.state <> NEW.state AND NOT (
            (OLD.state = 'queued' AND NEW.state = 'ready')
         OR (OLD.state = 'queued' AND NEW.state = 'running')
         OR (OLD.state = 'ready' AND NEW.state = 'running')
         OR (OLD.state = 'running' AND NEW.state = 'waiting')
         OR (OLD.state = 'waiting' AND NEW.state = 'ready')
         OR (OLD.state = 'running' AND NEW.state = 'ready')
         OR (OLD.state = 'running' AND NEW.state = 'completed')
         OR (OLD.state = 'ready' AND NEW.state = 'failed')
         OR (OLD.state = 'running' AND NEW.state = 'failed')
         OR (OLD.state = 'queued' AND NEW.state = 'interrupted')
         OR (OLD.state = 'ready' AND NEW.state = 'interrupted')
         OR (OLD.state = 'running' AND NEW.state = 'interrupted')
         OR (OLD.state = 'waiting' AND NEW.state = 'interrupted')
    )
    BEGIN
      SELECT RAISE(ABORT, 'turns: illegal change of state');
    END
    """,
    """
    CREATE TRIGGER tool_calls_legal_moves BEFORE UPDATE OF state ON tool_calls
    WHEN OLD.state <> NEW.state AND NOT (
            (OLD.state = 'proposed' AND NEW.state = 'approved')
         OR (OLD.state = 'proposed' AND NEW.state = 'denied')
         OR (OLD.state = 'approved' AND NEW.state = 'started')
         OR (OLD.state = 'started' AND NEW.state = 'succeeded')
         OR (OLD.state = 'started' AND NEW.state = 'failed')
         OR (OLD.state = 'started' AND NEW.state = 'unknown')
         OR (OLD.state = 'proposed' AND NEW.state = 'aborted')
         OR (OLD.state = 'approved' AND NEW.state = 'aborted')
         OR (OLD.state = 'started' AND NEW.state = 'aborted')
    )
    BEGIN
      SELECT RAISE(ABORT, 'tool_calls: illegal change of state');
    END
    """,
    """
    CREATE TRIGGER approvals_legal_moves BEFORE UPDATE OF state ON approvals
    WHEN OLD.state <> NEW.state AND NOT (
            (OLD.state = 'pending' AND NEW.state = 'approved')
         OR (OLD.state = 'pending' AND NEW.state = 'denied')
         OR (OLD.state = 'pending' AND NEW.state = 'withdrawn')
    )
    BEGIN
      SELECT RAISE(ABORT, 'approvals: illegal change of state');
    END
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(dedent(statement).strip())


def downgrade() -> None:
    raise RuntimeError("0001 is the first revision; there is nothing below it")

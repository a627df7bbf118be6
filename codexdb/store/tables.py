"""The tables, as SQLAlchemy Core metadata. CHECKs that tie data to state are derived from `domain.transition`.

Conventions: `id` is the integer key used inside, `public_id` the UUIDv7 that people see, `<table>_id` an integer
reference, `*_at_ms` UTC epoch milliseconds. JSON is TEXT. Every table is STRICT.

Everything of a session references the session, and goes with it. References between its parts (to a turn, an item, a
call) are plain integers: each enforced one needs an index of its own, which every write would pay for (docs/adr/0009).
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.sql.schema import SchemaItem

from codexdb.domain.transition import APPROVAL, HOLDS_SESSION, TOOL_CALL, TURN, TransitionTable
from codexdb.store.views import DAY_OF_REQUEST

metadata = MetaData()


def quoted(states: tuple[str, ...]) -> str:
    """SQL list of text literals."""
    return ", ".join(f"'{state}'" for state in states)


def _known_states(table: TransitionTable) -> CheckConstraint:
    return CheckConstraint(f"state IN ({quoted(table.states)})", name=f"{table.table}_state_known")


def _iff(table: TransitionTable, column: str, states: tuple[str, ...], name: str) -> CheckConstraint:
    """`column` holds a value exactly in these states."""
    return CheckConstraint(f"({column} IS NOT NULL) = (state IN ({quoted(states)}))", name=f"{table.table}_{name}")


def _table(name: str, *items: SchemaItem, rowid: bool = True) -> Table:
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=rowid)


def _key() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _public_id() -> Column[str]:
    return Column("public_id", Text, nullable=False, unique=True)


def _session() -> Column[int]:
    return Column("session_id", Integer, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


def _turn(*, nullable: bool = False) -> Column[int]:
    return Column("turn_id", Integer, nullable=nullable)


workers = _table(
    "workers",
    _key(),
    _public_id(),
    Column("pid", Integer, nullable=False),
    Column("pid_started_at", Text, nullable=False),  # the kernel's start time of the process; opaque
    Column("boot_id", Text, nullable=False),
    Column("pid_namespace", Text, nullable=False),
    Column("uid", Integer, nullable=False),
    Column("codex_home", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at_ms", Integer, nullable=False),
    Column("heartbeat_at_monotonic_ms", Integer, nullable=False),  # comparable within one boot only
    Column("stopped_at_ms", Integer),
)

sessions = _table(
    "sessions",
    _key(),
    _public_id(),
    Column("origin", Text, nullable=False),  # the tool or command that made it
    Column("title", Text),
    Column("model", Text, nullable=False),
    Column("model_provider", Text, nullable=False),
    Column("cwd", Text, nullable=False),
    Column("approval_policy", Text, nullable=False),
    Column("sandbox_mode", Text, nullable=False),
    Column("settings", Text, nullable=False),  # everything else of SessionSettings, JSON, no secrets
    Column("latest_plan", Text),
    Column("forked_from_id", Integer, ForeignKey("sessions.id", ondelete="SET NULL")),
    Column("epoch", Integer, nullable=False, server_default=text("0")),  # of compaction; items of older epochs stay
    Column("turn_count", Integer, nullable=False, server_default=text("0")),
    Column("next_seq", Integer, nullable=False, server_default=text("1")),
    Column("next_item_seq", Integer, nullable=False, server_default=text("1")),
    # The turn that holds the session. No reference: the check-and-set writes it before the turn's own row.
    Column("active_turn_id", Integer),
    Column("created_at_ms", Integer, nullable=False),
    Column("updated_at_ms", Integer, nullable=False),  # bumped per turn, never per event
    Column("archived_at_ms", Integer),
    CheckConstraint("next_seq >= 1 AND next_item_seq >= 1", name="sessions_seq_positive"),
)
Index("sessions_by_update", sessions.c.updated_at_ms, sessions.c.id)
Index("sessions_by_cwd", sessions.c.cwd, sessions.c.updated_at_ms, sessions.c.id)
Index("sessions_by_fork", sessions.c.forked_from_id, sqlite_where=sessions.c.forked_from_id.is_not(None))

turns = _table(
    "turns",
    _key(),
    _public_id(),
    _session(),
    Column("number", Integer, nullable=False),  # 1 for the first of its session
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),  # nth claim; the fence
    Column("crashes", Integer, nullable=False, server_default=text("0")),  # how often its worker died
    Column("worker_id", Integer, ForeignKey("workers.id")),
    Column("accepted_by_id", Integer),  # the worker of the process that accepted it: whose like may work on it
    Column("submission_id", Text, nullable=False),  # `id` of its events on the wire
    Column("settings", Text),  # what this turn overrides of the session's, JSON
    Column("trace_context", Text),
    Column("interrupt_requested_at_ms", Integer),
    Column("retry_at_ms", Integer),
    Column("end_reason", Text),
    Column("error_kind", Text),
    Column("error_message", Text),
    Column("last_agent_message", Text),
    Column("created_at_ms", Integer, nullable=False),
    Column("started_at_ms", Integer),
    Column("ended_at_ms", Integer),
    UniqueConstraint("session_id", "number", name="turns_numbered"),
    _known_states(TURN),
    _iff(TURN, "worker_id", ("running",), "worker_iff_running"),
    _iff(TURN, "ended_at_ms", TURN.terminal, "ended_iff_terminal"),
    _iff(TURN, "end_reason", TURN.terminal, "reason_iff_terminal"),
    _iff(TURN, "error_message", ("failed",), "error_iff_failed"),
    CheckConstraint(
        "state NOT IN ('running', 'waiting', 'completed') OR started_at_ms IS NOT NULL",
        name="turns_started_if_worked_on",
    ),
    CheckConstraint("attempt >= 0 AND crashes >= 0", name="turns_counts_positive"),
)
Index(
    "turns_one_holds_session",
    turns.c.session_id,
    unique=True,
    sqlite_where=text(f"state IN ({quoted(HOLDS_SESSION)})"),
)
Index("turns_queued", turns.c.session_id, turns.c.id, sqlite_where=text("state = 'queued'"))
Index("turns_ready", turns.c.id, sqlite_where=text("state = 'ready'"))
Index("turns_failed", turns.c.ended_at_ms, turns.c.id, sqlite_where=text("state = 'failed'"))

inputs = _table(
    "inputs",
    _key(),
    Column("public_id", Text, nullable=False),
    _session(),
    _turn(nullable=True),
    Column("message_id", Text),  # the sender's own name for it
    Column("opens_session", Integer, nullable=False, server_default=text("0")),
    Column("mode", Text, nullable=False),  # how it was to be taken: start, queue, steer, create
    Column("outcome", Text, nullable=False),  # what became of it
    Column("content", Text, nullable=False),  # JSON array of content parts
    Column("content_hash", Text, nullable=False),
    Column("item", Text),  # what the model will see, until it is delivered
    Column("created_at_ms", Integer, nullable=False),
    Column("delivered_at_ms", Integer),  # when it became an item
    Column("withdrawn_at_ms", Integer),
    UniqueConstraint("session_id", "message_id", name="inputs_accepted_once"),
    CheckConstraint("mode IN ('start', 'queue', 'steer', 'create')", name="inputs_mode_known"),
    CheckConstraint("outcome IN ('started', 'queued', 'steered', 'created')", name="inputs_outcome_known"),
)
Index(
    "inputs_open_one_session",
    inputs.c.message_id,
    unique=True,
    sqlite_where=text("opens_session = 1 AND message_id IS NOT NULL"),
)
Index("inputs_by_turn", inputs.c.session_id, inputs.c.turn_id)

items = _table(
    "items",
    _key(),
    _session(),
    Column("seq", Integer, nullable=False),
    _turn(nullable=True),  # NULL: context of the session itself
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("type", Text, nullable=False),
    Column("role", Text),
    Column("payload", Text, nullable=False),  # the item as JSON
    Column(
        "text",
        Text,
        Computed(
            "coalesce(json_extract(payload, '$.content[0].text'), json_extract(payload, '$.arguments'), "
            "json_extract(payload, '$.output'))",
            persisted=False,
        ),
    ),  # for people and searches; costs nothing to store
    Column("partial", Integer, nullable=False, server_default=text("0")),  # an answer that was cut short
    Column("created_at_ms", Integer, nullable=False),
    UniqueConstraint("session_id", "seq", name="items_in_order"),
)

events = _table(
    "events",
    Column("session_id", Integer, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("turn_id", Integer),
    Column("type", Text, nullable=False),
    Column("msg", Text, nullable=False),  # the event as clients see it, JSON
    Column("created_at_ms", Integer, nullable=False),
    rowid=False,
)

deltas = _table(
    "deltas",
    Column("session_id", Integer, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("turn_id", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("item", Integer, primary_key=True),  # which unfinished item of the attempt, from 0
    Column("offset", Integer, primary_key=True),  # of this piece, in pieces
    Column("type", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at_ms", Integer, nullable=False),
    rowid=False,
)

tool_calls = _table(
    "tool_calls",
    _key(),
    _public_id(),
    _session(),
    _turn(),
    Column("item_id", Integer),
    Column("output_item_id", Integer),
    Column("call_id", Text, nullable=False),  # the model's name for it
    Column("name", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("pid", Integer),
    Column("pid_started_at", Text),
    Column("exit_code", Integer),
    Column("output", Text),
    Column("proposed_at_ms", Integer, nullable=False),
    Column("started_at_ms", Integer),
    Column("ended_at_ms", Integer),
    _known_states(TOOL_CALL),
    _iff(TOOL_CALL, "ended_at_ms", TOOL_CALL.terminal, "ended_iff_terminal"),
    CheckConstraint(
        "state NOT IN ('started', 'succeeded', 'failed', 'unknown') OR started_at_ms IS NOT NULL",
        name="tool_calls_started_if_run",
    ),
)
Index("tool_calls_by_turn", tool_calls.c.session_id, tool_calls.c.turn_id)

approvals = _table(
    "approvals",
    _key(),
    _public_id(),
    _session(),
    _turn(),
    Column("tool_call_id", Integer),
    Column("kind", Text, nullable=False),  # exec, patch, tool
    Column("state", Text, nullable=False),
    Column("question", Text, nullable=False),  # JSON
    Column("fallback", Text, nullable=False),  # deny or wait, decided when the question arose
    Column("decision", Text),
    Column("decided_by", Text),
    Column("created_at_ms", Integer, nullable=False),
    Column("decided_at_ms", Integer),
    _known_states(APPROVAL),
    _iff(APPROVAL, "decided_at_ms", APPROVAL.terminal, "decided_iff_terminal"),
)
Index("approvals_pending", approvals.c.session_id, approvals.c.id, sqlite_where=text("state = 'pending'"))
Index("approvals_by_turn", approvals.c.session_id, approvals.c.turn_id)
REMEMBERED = "state = 'approved' AND decision IN ('approved_for_session', 'approved_always')"
"""An answer that holds for later questions, too."""
Index("approvals_remembered", approvals.c.decision, approvals.c.session_id, sqlite_where=text(REMEMBERED))

model_requests = _table(
    "model_requests",
    _key(),
    _session(),
    _turn(),
    Column("attempt", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_provider", Text, nullable=False),
    Column("started_at_ms", Integer, nullable=False),
    Column("first_event_at_ms", Integer),
    Column("ended_at_ms", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("input_tokens", Integer),
    Column("cached_input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_output_tokens", Integer),
    Column("total_tokens", Integer),
    Column("error", Text),
)
Index("model_requests_by_turn", model_requests.c.session_id, model_requests.c.turn_id)
Index("model_requests_by_day", text(DAY_OF_REQUEST), _table=model_requests)

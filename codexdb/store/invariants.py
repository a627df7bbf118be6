"""What has to hold of the rows, as queries: each finds rows that must not be. `check` runs them, docs/invariants.md
lists them for whoever asks in SQL.

Every query begins at `sessions` and comes to the other tables by their session, so that it can be run for a part of
the sessions, and reads each row once.
"""

from dataclasses import dataclass

from codexdb.domain.event import TERMINAL_TYPES
from codexdb.domain.transition import HOLDS_SESSION, TURN
from codexdb.store.tables import quoted

_HOLDS = quoted(HOLDS_SESSION)
_ENDED = quoted(TURN.terminal)
_TERMINAL = quoted(tuple(sorted(TERMINAL_TYPES)))


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that holds of every database at every instant."""

    name: str
    holds: str  # what must be so
    query: str  # the rows that break it
    advice: str  # what to do where there are some


def _numbered(table: str, counter: str) -> str:
    return f"""\
SELECT s.public_id AS session, s.{counter}, count(x.seq) AS rows_found, max(x.seq) AS last_seq
FROM sessions AS s LEFT JOIN {table} AS x ON x.session_id = s.id
GROUP BY s.id
HAVING count(x.seq) <> s.{counter} - 1 OR coalesce(max(x.seq), 0) <> s.{counter} - 1"""


def _lost(table: str, column: str, target: str, *, name: str = "x.public_id") -> str:
    """Rows whose plain integer names no row of their own session."""
    return f"""\
SELECT s.public_id AS session, {name} AS row, x.{column}
FROM sessions AS s JOIN {table} AS x ON x.session_id = s.id
LEFT JOIN {target} AS y ON y.id = x.{column} AND y.session_id = x.session_id
WHERE x.{column} IS NOT NULL AND y.id IS NULL"""


_RESTORE = "Restore a backup (`codexdb db restore`); if there is none, fork the session up to the turn before."
_REPORT = "No running turn is hurt by it. Fork the session to go on from its items, and report it as a bug."
_INTERRUPT = "Interrupt the turn with `conversation_interrupt`; if that changes nothing, restore a backup."

INVARIANTS = (
    Invariant(
        "one turn holds a session",
        "P2: `sessions.active_turn_id` is exactly the turn of the session that is ready, running or waiting.",
        f"""\
SELECT s.public_id AS session, s.active_turn_id, group_concat(t.id) AS turns_that_hold_it
FROM sessions AS s LEFT JOIN turns AS t ON t.session_id = s.id AND t.state IN ({_HOLDS})
GROUP BY s.id
HAVING count(t.id) > 1 OR s.active_turn_id IS NOT max(t.id)""",
        _INTERRUPT,
    ),
    Invariant(
        "a free session has no queue",
        "P2: Where turns are queued, one holds the session.",
        """\
SELECT s.public_id AS session, t.public_id AS turn
FROM sessions AS s JOIN turns AS t ON t.session_id = s.id AND t.state = 'queued'
WHERE s.active_turn_id IS NULL""",
        _INTERRUPT,
    ),
    Invariant(
        "turns are counted",
        "`sessions.turn_count` is the number of the session's turns, and the number of the last one.",
        """\
SELECT s.public_id AS session, s.turn_count, count(t.id) AS turns_found, max(t.number) AS last_number
FROM sessions AS s LEFT JOIN turns AS t ON t.session_id = s.id
GROUP BY s.id
HAVING count(t.id) <> s.turn_count OR coalesce(max(t.number), 0) <> s.turn_count""",
        _RESTORE,
    ),
    Invariant(
        "events have no gaps",
        "P4: The events of a session are numbered from 1 to `next_seq - 1`.",
        _numbered("events", "next_seq"),
        _RESTORE,
    ),
    Invariant(
        "items have no gaps",
        "P4: The items of a session are numbered from 1 to `next_item_seq - 1`.",
        _numbered("items", "next_item_seq"),
        _RESTORE,
    ),
    Invariant(
        "a turn ends once",
        "P6: An ended turn has exactly one event of a terminal type, an open one has none.",
        f"""\
SELECT session, turn, state, sum(ends) AS terminal_events
FROM (
  SELECT s.public_id AS session, t.public_id AS turn, t.state AS state, 0 AS ends
  FROM sessions AS s JOIN turns AS t ON t.session_id = s.id
  UNION ALL
  SELECT s.public_id, t.public_id, t.state, 1
  FROM sessions AS s JOIN events AS e ON e.session_id = s.id JOIN turns AS t ON t.id = e.turn_id
  WHERE e.type IN ({_TERMINAL})
)
GROUP BY turn
HAVING sum(ends) <> (state IN ({_ENDED}))""",
        _RESTORE,
    ),
    Invariant(
        "a call ends with its turn",
        "P5: A call is open only while its turn is; it is started only while a worker has the turn, or a person is "
        "asked whether it may run again.",
        f"""\
SELECT s.public_id AS session, t.public_id AS turn, c.public_id AS call, c.state AS call_state, t.state AS turn_state
FROM sessions AS s JOIN tool_calls AS c ON c.session_id = s.id JOIN turns AS t ON t.id = c.turn_id
WHERE c.ended_at_ms IS NULL AND (t.state IN ({_ENDED}) OR c.state = 'started' AND t.state <> 'running'
  AND NOT EXISTS (SELECT 1 FROM approvals AS a
    WHERE a.session_id = c.session_id AND a.turn_id = c.turn_id AND a.tool_call_id = c.id))""",
        _REPORT,
    ),
    Invariant(
        "a question is about an open turn",
        "P8: A question is pending only while its turn holds the session.",
        f"""\
SELECT s.public_id AS session, t.public_id AS turn, a.public_id AS approval, t.state AS turn_state
FROM sessions AS s JOIN approvals AS a ON a.session_id = s.id JOIN turns AS t ON t.id = a.turn_id
WHERE a.state = 'pending' AND t.state NOT IN ({_HOLDS})""",
        "Answer it with `codexdb approvals decide`; nothing is run by that any more.",
    ),
    Invariant(
        "a waiting turn is asked about",
        "P8: A turn that waits for a person has a pending question.",
        """\
SELECT s.public_id AS session, t.public_id AS turn
FROM sessions AS s JOIN turns AS t ON t.session_id = s.id AND t.state = 'waiting'
WHERE NOT EXISTS (SELECT 1 FROM approvals AS a
  WHERE a.session_id = t.session_id AND a.turn_id = t.id AND a.state = 'pending')""",
        _INTERRUPT,
    ),
    Invariant(
        "a message is delivered or taken back",
        "P3: When a turn has ended, each message of it has become an item or was withdrawn.",
        f"""\
SELECT s.public_id AS session, t.public_id AS turn, x.public_id AS input, x.mode
FROM sessions AS s JOIN inputs AS x ON x.session_id = s.id JOIN turns AS t ON t.id = x.turn_id
WHERE t.state IN ({_ENDED}) AND x.delivered_at_ms IS NULL AND x.withdrawn_at_ms IS NULL""",
        "The model was never told that message: its text is in `inputs.content`. Send it again.",
    ),
    Invariant(
        "pieces belong to open turns",
        "Rows of `deltas` are of turns that hold their session.",
        f"""\
SELECT s.public_id AS session, d.turn_id, t.state AS turn_state, count(*) AS pieces
FROM sessions AS s JOIN deltas AS d ON d.session_id = s.id LEFT JOIN turns AS t ON t.id = d.turn_id
WHERE t.state IS NULL OR t.state NOT IN ({_HOLDS})
GROUP BY d.session_id, d.turn_id""",
        "Harmless: nobody reads them. Report it as a bug.",
    ),
    Invariant(
        "messages have their turns",
        "`inputs.turn_id` names a turn of the same session.",
        _lost("inputs", "turn_id", "turns"),
        _RESTORE,
    ),
    Invariant(
        "events have their turns",
        "`events.turn_id` names a turn of the same session.",
        _lost("events", "turn_id", "turns", name="x.seq"),
        _RESTORE,
    ),
    Invariant(
        "calls have their turns",
        "`tool_calls.turn_id` names a turn of the same session.",
        _lost("tool_calls", "turn_id", "turns"),
        _RESTORE,
    ),
    Invariant(
        "calls have their items",
        "`tool_calls.item_id` names an item of the same session.",
        _lost("tool_calls", "item_id", "items"),
        _RESTORE,
    ),
    Invariant(
        "outputs have their items",
        "`tool_calls.output_item_id` names an item of the same session.",
        _lost("tool_calls", "output_item_id", "items"),
        _RESTORE,
    ),
    Invariant(
        "questions have their turns",
        "`approvals.turn_id` names a turn of the same session.",
        _lost("approvals", "turn_id", "turns"),
        _RESTORE,
    ),
    Invariant(
        "questions have their calls",
        "`approvals.tool_call_id` names a call of the same session.",
        _lost("approvals", "tool_call_id", "tool_calls"),
        _RESTORE,
    ),
    Invariant(
        "requests have their turns",
        "`model_requests.turn_id` names a turn of the same session.",
        _lost("model_requests", "turn_id", "turns", name="x.id"),
        "Only the accounts are wrong: the tokens of these requests belong to no turn. Report it as a bug.",
    ),
    Invariant(
        "turns have who accepted them",
        "`turns.accepted_by_id` names a worker.",
        """\
SELECT s.public_id AS session, t.public_id AS turn, t.accepted_by_id
FROM sessions AS s JOIN turns AS t ON t.session_id = s.id LEFT JOIN workers AS w ON w.id = t.accepted_by_id
WHERE t.accepted_by_id IS NOT NULL AND w.id IS NULL""",
        "Harmless for ended turns; an open one may be taken by the worker of any user and CODEX_HOME.",
    ),
)

WORDS = "CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'search', 'instance')"
"""To be run once on a connection, before the query below. Writes nothing to the file."""

TEXT_INDEX = Invariant(
    "the text index knows every item",
    "Each message and call that has a word in it is in the index `search`, and nothing else is.",
    """\
SELECT s.public_id AS session, i.seq, i.id AS item, 'not in the index' AS fault
FROM sessions AS s JOIN items AS i ON i.session_id = s.id JOIN searchable AS x ON x.id = i.id
WHERE i.id NOT IN (SELECT doc FROM words) AND x.text GLOB '*[A-Za-zÀ-ÖØ-öø-ɏА-я一-鿋0-9]*'
UNION ALL
SELECT NULL, NULL, doc, 'in the index, and no item' FROM (SELECT DISTINCT doc FROM words)
WHERE doc NOT IN (SELECT id FROM items)""",
    "Nothing is lost, but searches go wrong. Make the index anew, with no server running: "
    "`sqlite3 FILE \"INSERT INTO search (search) VALUES ('rebuild')\"`.",
)
"""Not for databases of the first schema, which have no index."""

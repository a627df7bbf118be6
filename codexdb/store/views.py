"""The views: what people query. Columns are told in docs/schema.md, which is made from here.

Names stay as they are within a revision. In views `session` and `turn` are the ids that people see, times come twice:
`*_at` as ISO 8601 in UTC, `*_at_ms` as the integer of the table. Where there are many rows, `id` sorts them.
"""

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True, slots=True)
class View:
    """A view: what it is for, its columns with their meaning in order, and how each is had."""

    name: str
    about: str
    columns: tuple[tuple[str, str, str], ...]  # name, SQL, meaning
    source: str
    example: str  # a query that people ask

    @property
    def ddl(self) -> str:
        """The CREATE statement."""
        listed = ",\n".join(f"  {sql} AS {name}" for name, sql, _ in self.columns)
        return f"CREATE VIEW {self.name} AS\nSELECT\n{listed}\n{dedent(self.source).strip()}"


def _iso(at_ms: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {at_ms} / 1000.0, 'unixepoch')"


def _times(alias: str, **meanings: str) -> tuple[tuple[str, str, str], ...]:
    """Each time as text and as integer."""
    return tuple(
        each
        for name, meaning in meanings.items()
        for each in (
            (name, _iso(f"{alias}.{name}_ms"), meaning),
            (f"{name}_ms", f"{alias}.{name}_ms", "The same as an integer."),
        )
    )


def _age(alias: str) -> tuple[str, str, str]:
    now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    return ("age_ms", f"{now} - {alias}.created_at_ms", "How long ago that was, when the query is run.")


def _command(arguments: str) -> str:
    """A call in a line: the words of its command, else its arguments as they came."""
    words = f"(SELECT group_concat(word.value, ' ') FROM json_each({arguments}, '$.command') AS word)"
    return f"CASE WHEN json_valid({arguments}) THEN coalesce({words}, {arguments}) ELSE {arguments} END"


_SESSION = ("session", "s.public_id", "Id of the session, as on the wire.")
_TURN = ("turn", "t.public_id", "Id of the turn, as on the wire.")
_NUMBER = ("turn_number", "t.number", "1 for the first turn of its session.")
_FIRST_WORDS = (
    "(SELECT i.text FROM items AS i WHERE i.session_id = s.id AND i.turn_id IS NOT NULL AND i.role = 'user' "
    "ORDER BY i.seq LIMIT 1)"
)
_TITLE = ("title", f"substr(coalesce(s.title, {_FIRST_WORDS}), 1, 200)", "Its name, else its first message.")
_CWD = ("cwd", "s.cwd", "Working directory of its commands.")
_MODEL = ("model", "s.model", "Model that the session asks.")
_PROMPT = (
    "prompt",
    (
        "(SELECT json_extract(n.content, '$[0].text') FROM inputs AS n "
        "WHERE n.session_id = t.session_id AND n.turn_id = t.id ORDER BY n.id LIMIT 1)"
    ),
    "The message that began it.",
)
_ERROR = (
    ("error_kind", "t.error_kind", "For programs: the kind of the failure."),
    ("error_message", "t.error_message", "For people: what failed."),
)


def _of_turn(what: str) -> str:
    return f"(SELECT {what} FROM model_requests AS r WHERE r.session_id = t.session_id AND r.turn_id = t.id)"


_SUMS = (
    ("input_tokens", "coalesce(sum(r.input_tokens), 0)", "As the endpoint counted them, cached ones included."),
    ("cached_input_tokens", "coalesce(sum(r.cached_input_tokens), 0)", "Those that the endpoint had in its cache."),
    ("output_tokens", "coalesce(sum(r.output_tokens), 0)", "As the endpoint counted them, reasoning included."),
    ("reasoning_output_tokens", "coalesce(sum(r.reasoning_output_tokens), 0)", "Those that were reasoning."),
    ("total_tokens", "coalesce(sum(r.total_tokens), 0)", "As the endpoint counted them."),
)
DAY_OF_REQUEST = "date(started_at_ms / 1000, 'unixepoch')"
_DAY = DAY_OF_REQUEST.replace("started_at_ms", "r.started_at_ms")

VIEWS = (
    View(
        "session_overview",
        "Every session, with how it stands.",
        (
            _SESSION,
            _TITLE,
            (
                "state",
                "CASE WHEN s.archived_at_ms IS NOT NULL THEN 'archived' ELSE coalesce(h.state, 'idle') END",
                "`idle`, `archived`, or the state of the turn that holds it: `ready`, `running`, `waiting`.",
            ),
            _MODEL,
            ("model_provider", "s.model_provider", "Where the model is asked."),
            _CWD,
            ("approval_policy", "s.approval_policy", "When a person is asked."),
            ("sandbox_mode", "s.sandbox_mode", "What commands may touch."),
            ("origin", "s.origin", "The tool or command that made it."),
            ("turns", "s.turn_count", "Number of its turns."),
            ("events", "s.next_seq - 1", "Number of its events."),
            ("last_turn_state", "l.state", "State of its newest turn."),
            ("last_answer", "l.last_agent_message", "The last thing that the model said in that turn."),
            (
                "total_tokens",
                "(SELECT coalesce(sum(r.total_tokens), 0) FROM model_requests AS r WHERE r.session_id = s.id)",
                "What its model requests have used.",
            ),
            (
                "pending_approvals",
                "(SELECT count(*) FROM approvals AS a WHERE a.session_id = s.id AND a.state = 'pending')",
                "Questions of it that wait for an answer.",
            ),
            ("forked_from", "f.public_id", "The session it was forked from."),
            *_times(
                "s",
                created_at="When it was made.",
                updated_at="When it was made, or a turn of it last began or ended.",
                archived_at="When it was closed for new messages.",
            ),
        ),
        """
        FROM sessions AS s
        LEFT JOIN turns AS h ON h.id = s.active_turn_id
        LEFT JOIN turns AS l ON l.session_id = s.id AND l.number = s.turn_count
        LEFT JOIN sessions AS f ON f.id = s.forked_from_id
        """,
        "SELECT session, title, state, turns, updated_at\nFROM session_overview ORDER BY updated_at_ms DESC LIMIT 10;",
    ),
    View(
        "turn_overview",
        "Every turn: what was asked, how it ended, what it took.",
        (
            _SESSION,
            _TURN,
            _NUMBER,
            ("state", "t.state", "Where it is in its life; see states.md."),
            ("end_reason", "t.end_reason", "Why it ended: `answered`, `requested`, or the kind of its failure."),
            *_ERROR,
            _PROMPT,
            ("answer", "t.last_agent_message", "The last thing that the model said."),
            ("requests", _of_turn("count(*)"), "Requests to the model."),
            ("total_tokens", _of_turn("coalesce(sum(r.total_tokens), 0)"), "What they have used."),
            (
                "calls",
                "(SELECT count(*) FROM tool_calls AS c WHERE c.session_id = t.session_id AND c.turn_id = t.id)",
                "Calls of tools that the model proposed.",
            ),
            ("crashes", "t.crashes", "How often its worker died."),
            ("duration_ms", "t.ended_at_ms - t.created_at_ms", "From its acceptance to its end."),
            *_times(
                "t",
                created_at="When its message was accepted.",
                started_at="When a worker last took it.",
                ended_at="When it ended.",
            ),
            ("id", "t.id", "Key; turns that were accepted later have larger ones."),
        ),
        "FROM turns AS t JOIN sessions AS s ON s.id = t.session_id",
        "SELECT turn_number, state, prompt, duration_ms, total_tokens\n"
        "FROM turn_overview WHERE session = :session ORDER BY turn_number;",
    ),
    View(
        "transcript",
        "What was said and done, in order: one row for each item.",
        (
            _SESSION,
            ("seq", "i.seq", "Its place in the session, from 1."),
            (
                "turn",
                "t.public_id",
                "Id of the turn. What a fork took over has the turns of its source, or none once that is deleted.",
            ),
            ("turn_number", "t.number", "1 for the first turn of the session that the turn is of."),
            (
                "kind",
                (
                    "CASE WHEN i.turn_id IS NULL THEN 'context' WHEN i.type = 'message' THEN i.role "
                    "WHEN i.type = 'function_call' THEN 'call' WHEN i.type = 'function_call_output' THEN 'output' "
                    "ELSE i.type END"
                ),
                (
                    "`user`, `assistant`, `call`, `output`, `tool` for what a call shows, `reasoning`, "
                    "`compaction`; `context`: what the session "
                    "itself tells the model."
                ),
            ),
            ("tool", "json_extract(i.payload, '$.name')", "Name of the tool that is called."),
            ("call_id", "json_extract(i.payload, '$.call_id')", "The model's name for the call; ties output to call."),
            (
                "text",
                "CASE WHEN i.type = 'reasoning' THEN json_extract(i.payload, '$.summary[0].text') ELSE i.text END",
                "Its words, arguments or output.",
            ),
            ("partial", "i.partial", "1 where it is the beginning of an answer that was cut short."),
            *_times("i", created_at="When it came."),
            ("id", "i.id", "Key; newer items have larger ones. The `rowid` of `search`."),
        ),
        """
        FROM items AS i
        JOIN sessions AS s ON s.id = i.session_id
        LEFT JOIN turns AS t ON t.id = i.turn_id
        """,
        "SELECT seq, turn_number, kind, substr(text, 1, 60) AS text\n"
        "FROM transcript WHERE session = :session ORDER BY seq;",
    ),
    View(
        "tool_call_log",
        "Every call of a tool, with its outcome.",
        (
            _SESSION,
            _TURN,
            _NUMBER,
            ("call", "c.public_id", "Its id in the database."),
            ("call_id", "c.call_id", "The model's name for it."),
            ("tool", "c.name", "Of the tool."),
            ("command", _command("c.arguments"), "The command as words; of other tools, the arguments."),
            ("state", "c.state", "How far it came; see states.md."),
            ("exit_code", "c.exit_code", "Of the command; -1 where it was not started, timed out or was killed."),
            ("duration_ms", "c.ended_at_ms - c.started_at_ms", "From its intent to its outcome."),
            ("output", "c.output", "What it printed."),
            (
                "approval",
                (
                    "(SELECT a.state FROM approvals AS a WHERE a.session_id = c.session_id AND a.turn_id = c.turn_id "
                    "AND a.tool_call_id = c.id ORDER BY a.id DESC LIMIT 1)"
                ),
                "What a person said to it; NULL where nobody was asked.",
            ),
            *_times(
                "c",
                proposed_at="When the model's call was complete.",
                started_at="When its intent was committed.",
                ended_at="When its outcome was committed.",
            ),
            ("id", "c.id", "Key; newer calls have larger ones."),
        ),
        """
        FROM tool_calls AS c
        JOIN sessions AS s ON s.id = c.session_id
        LEFT JOIN turns AS t ON t.id = c.turn_id
        """,
        "SELECT tool, command, state, exit_code, duration_ms\nFROM tool_call_log ORDER BY id DESC LIMIT 20;",
    ),
    View(
        "token_usage",
        "Tokens by session, model and day (UTC).",
        (
            _SESSION,
            ("model", "r.model", "The model that was asked."),
            ("model_provider", "r.model_provider", "Where."),
            ("day", _DAY, "The day, as YYYY-MM-DD."),
            ("requests", "count(*)", "Requests, failed ones included."),
            ("failed_requests", "count(r.error)", "Those that failed."),
            *_SUMS,
        ),
        f"""
        FROM model_requests AS r JOIN sessions AS s ON s.id = r.session_id
        GROUP BY s.public_id, r.model, r.model_provider, {_DAY}
        """,
        "SELECT day, model, sum(total_tokens) AS tokens\n"
        "FROM token_usage WHERE day >= date('now', '-7 days') GROUP BY day, model;",
    ),
    View(
        "running_turns",
        "The turns that hold a session now: at work, waiting for a person, or for a worker.",
        (
            _SESSION,
            _TURN,
            _NUMBER,
            ("state", "t.state", "`running`, `waiting` for a person, or `ready` for a worker."),
            _TITLE,
            _PROMPT,
            (
                "command",
                (
                    f"(SELECT {_command('c.arguments')} FROM tool_calls AS c WHERE c.session_id = t.session_id "
                    "AND c.turn_id = t.id AND c.state = 'started' ORDER BY c.id DESC LIMIT 1)"
                ),
                "What runs for it at this moment.",
            ),
            ("pid", "w.pid", "Process of its worker."),
            ("attempt", "t.attempt", "Number of times that a worker took it."),
            ("crashes", "t.crashes", "How often its worker died."),
            ("interrupt_requested", "t.interrupt_requested_at_ms IS NOT NULL", "1 where somebody asked for its end."),
            *_times("t", created_at="When its message was accepted."),
            _age("t"),
        ),
        """
        FROM turns AS t
        JOIN sessions AS s ON s.id = t.session_id
        LEFT JOIN workers AS w ON w.id = t.worker_id
        WHERE t.state IN ('ready', 'running', 'waiting')
        """,
        "SELECT session, state, prompt, command, age_ms FROM running_turns;",
    ),
    View(
        "pending_approvals",
        "Questions to a person that wait for an answer.",
        (
            ("approval", "a.public_id", "Id of the question, for `codexdb approvals decide`."),
            _SESSION,
            _TURN,
            _NUMBER,
            ("kind", "a.kind", "`exec`, `patch` or `tool`."),
            (
                "asks",
                (
                    "CASE a.kind "
                    "WHEN 'exec' THEN (SELECT group_concat(p.value, ' ') FROM json_each(a.question, '$.command') AS p) "
                    "WHEN 'patch' THEN (SELECT group_concat(p.key, ', ') FROM json_each(a.question, '$.changes') AS p) "
                    "ELSE json_extract(a.question, '$.tool') END"
                ),
                "The command, the files, or the tool.",
            ),
            ("reason", "json_extract(a.question, '$.reason')", "Why it is asked, where that is told."),
            ("question", "a.question", "All that a person is shown, JSON."),
            _CWD,
            *_times("a", created_at="When the question arose."),
            _age("a"),
        ),
        """
        FROM approvals AS a
        JOIN sessions AS s ON s.id = a.session_id
        JOIN turns AS t ON t.id = a.turn_id
        WHERE a.state = 'pending'
        """,
        "SELECT approval, kind, asks, cwd, age_ms FROM pending_approvals;",
    ),
    View(
        "failed_turns",
        "Turns that failed, and why.",
        (
            _SESSION,
            _TURN,
            _NUMBER,
            *_ERROR,
            _PROMPT,
            _TITLE,
            _MODEL,
            _CWD,
            ("crashes", "t.crashes", "How often its worker died."),
            *_times("t", created_at="When its message was accepted.", ended_at="When it failed."),
        ),
        """
        FROM turns AS t JOIN sessions AS s ON s.id = t.session_id
        WHERE t.state = 'failed'
        """,
        "SELECT ended_at, error_kind, error_message, prompt\nFROM failed_turns ORDER BY ended_at_ms DESC LIMIT 10;",
    ),
)


def create_views() -> list[str]:
    """DDL of all of them."""
    return [view.ddl for view in VIEWS]

"""Views for people who ask in SQL, an index of words, and the indexes that both need.

Landed and frozen: `tests/migration` compares this file with its recorded hash. Changes go into a new revision.
"""

from textwrap import dedent

from alembic import context, op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROWS_AT_ONCE = 2_000  # items between two words of progress

INDEXES = (
    """
    CREATE INDEX sessions_by_cwd ON sessions (cwd, updated_at_ms, id)
    """,
    """
    CREATE INDEX inputs_by_turn ON inputs (session_id, turn_id)
    """,
    """
    CREATE INDEX turns_failed ON turns (ended_at_ms, id) WHERE state = 'failed'
    """,
    """
    CREATE INDEX model_requests_by_day ON model_requests (date(started_at_ms / 1000, 'unixepoch'))
    """,
)

VIEWS = (
    """
    CREATE VIEW session_overview AS
    SELECT
      s.public_id AS session,
      substr(coalesce(s.title, (SELECT i.text FROM items AS i WHERE i.session_id = s.id AND i.turn_id IS NOT NULL AND i.role = 'user' ORDER BY i.seq LIMIT 1)), 1, 200) AS title,
      CASE WHEN s.archived_at_ms IS NOT NULL THEN 'archived' ELSE coalesce(h.state, 'idle') END AS state,
      s.model AS model,
      s.model_provider AS model_provider,
      s.cwd AS cwd,
      s.approval_policy AS approval_policy,
      s.sandbox_mode AS sandbox_mode,
      s.origin AS origin,
      s.turn_count AS turns,
      s.next_seq - 1 AS events,
      l.state AS last_turn_state,
      l.last_agent_message AS last_answer,
      (SELECT coalesce(sum(r.total_tokens), 0) FROM model_requests AS r WHERE r.session_id = s.id) AS total_tokens,
      (SELECT count(*) FROM approvals AS a WHERE a.session_id = s.id AND a.state = 'pending') AS pending_approvals,
      f.public_id AS forked_from,
      strftime('%Y-%m-%dT%H:%M:%fZ', s.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      s.created_at_ms AS created_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', s.updated_at_ms / 1000.0, 'unixepoch') AS updated_at,
      s.updated_at_ms AS updated_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', s.archived_at_ms / 1000.0, 'unixepoch') AS archived_at,
      s.archived_at_ms AS archived_at_ms
    FROM sessions AS s
    LEFT JOIN turns AS h ON h.id = s.active_turn_id
    LEFT JOIN turns AS l ON l.session_id = s.id AND l.number = s.turn_count
    LEFT JOIN sessions AS f ON f.id = s.forked_from_id
    """,
    """
    CREATE VIEW turn_overview AS
    SELECT
      s.public_id AS session,
      t.public_id AS turn,
      t.number AS turn_number,
      t.state AS state,
      t.end_reason AS end_reason,
      t.error_kind AS error_kind,
      t.error_message AS error_message,
      (SELECT json_extract(n.content, '$[0].text') FROM inputs AS n WHERE n.session_id = t.session_id AND n.turn_id = t.id ORDER BY n.id LIMIT 1) AS prompt,
      t.last_agent_message AS answer,
      (SELECT count(*) FROM model_requests AS r WHERE r.session_id = t.session_id AND r.turn_id = t.id) AS requests,
      (SELECT coalesce(sum(r.total_tokens), 0) FROM model_requests AS r WHERE r.session_id = t.session_id AND r.turn_id = t.id) AS total_tokens,
      (SELECT count(*) FROM tool_calls AS c WHERE c.session_id = t.session_id AND c.turn_id = t.id) AS calls,
      t.crashes AS crashes,
      t.ended_at_ms - t.created_at_ms AS duration_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      t.created_at_ms AS created_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.started_at_ms / 1000.0, 'unixepoch') AS started_at,
      t.started_at_ms AS started_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.ended_at_ms / 1000.0, 'unixepoch') AS ended_at,
      t.ended_at_ms AS ended_at_ms,
      t.id AS id
    FROM turns AS t JOIN sessions AS s ON s.id = t.session_id
    """,
    """
    CREATE VIEW transcript AS
    SELECT
      s.public_id AS session,
      i.seq AS seq,
      t.public_id AS turn,
      t.number AS turn_number,
      CASE WHEN i.turn_id IS NULL THEN 'context' WHEN i.type = 'message' THEN i.role WHEN i.type = 'function_call' THEN 'call' WHEN i.type = 'function_call_output' THEN 'output' ELSE i.type END AS kind,
      json_extract(i.payload, '$.name') AS tool,
      json_extract(i.payload, '$.call_id') AS call_id,
      CASE WHEN i.type = 'reasoning' THEN json_extract(i.payload, '$.summary[0].text') ELSE i.text END AS text,
      i.partial AS partial,
      strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      i.created_at_ms AS created_at_ms,
      i.id AS id
    FROM items AS i
    JOIN sessions AS s ON s.id = i.session_id
    LEFT JOIN turns AS t ON t.id = i.turn_id
    """,
    """
    CREATE VIEW tool_call_log AS
    SELECT
      s.public_id AS session,
      t.public_id AS turn,
      t.number AS turn_number,
      c.public_id AS call,
      c.call_id AS call_id,
      c.name AS tool,
      CASE WHEN json_valid(c.arguments) THEN coalesce((SELECT group_concat(word.value, ' ') FROM json_each(c.arguments, '$.command') AS word), c.arguments) ELSE c.arguments END AS command,
      c.state AS state,
      c.exit_code AS exit_code,
      c.ended_at_ms - c.started_at_ms AS duration_ms,
      c.output AS output,
      (SELECT a.state FROM approvals AS a WHERE a.session_id = c.session_id AND a.turn_id = c.turn_id AND a.tool_call_id = c.id ORDER BY a.id DESC LIMIT 1) AS approval,
      strftime('%Y-%m-%dT%H:%M:%fZ', c.proposed_at_ms / 1000.0, 'unixepoch') AS proposed_at,
      c.proposed_at_ms AS proposed_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', c.started_at_ms / 1000.0, 'unixepoch') AS started_at,
      c.started_at_ms AS started_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', c.ended_at_ms / 1000.0, 'unixepoch') AS ended_at,
      c.ended_at_ms AS ended_at_ms,
      c.id AS id
    FROM tool_calls AS c
    JOIN sessions AS s ON s.id = c.session_id
    LEFT JOIN turns AS t ON t.id = c.turn_id
    """,
    """
    CREATE VIEW token_usage AS
    SELECT
      s.public_id AS session,
      r.model AS model,
      r.model_provider AS model_provider,
      date(r.started_at_ms / 1000, 'unixepoch') AS day,
      count(*) AS requests,
      count(r.error) AS failed_requests,
      coalesce(sum(r.input_tokens), 0) AS input_tokens,
      coalesce(sum(r.cached_input_tokens), 0) AS cached_input_tokens,
      coalesce(sum(r.output_tokens), 0) AS output_tokens,
      coalesce(sum(r.reasoning_output_tokens), 0) AS reasoning_output_tokens,
      coalesce(sum(r.total_tokens), 0) AS total_tokens
    FROM model_requests AS r JOIN sessions AS s ON s.id = r.session_id
    GROUP BY s.public_id, r.model, r.model_provider, date(r.started_at_ms / 1000, 'unixepoch')
    """,
    """
    CREATE VIEW running_turns AS
    SELECT
      s.public_id AS session,
      t.public_id AS turn,
      t.number AS turn_number,
      t.state AS state,
      substr(coalesce(s.title, (SELECT i.text FROM items AS i WHERE i.session_id = s.id AND i.turn_id IS NOT NULL AND i.role = 'user' ORDER BY i.seq LIMIT 1)), 1, 200) AS title,
      (SELECT json_extract(n.content, '$[0].text') FROM inputs AS n WHERE n.session_id = t.session_id AND n.turn_id = t.id ORDER BY n.id LIMIT 1) AS prompt,
      (SELECT CASE WHEN json_valid(c.arguments) THEN coalesce((SELECT group_concat(word.value, ' ') FROM json_each(c.arguments, '$.command') AS word), c.arguments) ELSE c.arguments END FROM tool_calls AS c WHERE c.session_id = t.session_id AND c.turn_id = t.id AND c.state = 'started' ORDER BY c.id DESC LIMIT 1) AS command,
      w.pid AS pid,
      t.attempt AS attempt,
      t.crashes AS crashes,
      t.interrupt_requested_at_ms IS NOT NULL AS interrupt_requested,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      t.created_at_ms AS created_at_ms,
      CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - t.created_at_ms AS age_ms
    FROM turns AS t
    JOIN sessions AS s ON s.id = t.session_id
    LEFT JOIN workers AS w ON w.id = t.worker_id
    WHERE t.state IN ('ready', 'running', 'waiting')
    """,
    """
    CREATE VIEW pending_approvals AS
    SELECT
      a.public_id AS approval,
      s.public_id AS session,
      t.public_id AS turn,
      t.number AS turn_number,
      a.kind AS kind,
      CASE a.kind WHEN 'exec' THEN (SELECT group_concat(p.value, ' ') FROM json_each(a.question, '$.command') AS p) WHEN 'patch' THEN (SELECT group_concat(p.key, ', ') FROM json_each(a.question, '$.changes') AS p) ELSE json_extract(a.question, '$.tool') END AS asks,
      json_extract(a.question, '$.reason') AS reason,
      a.question AS question,
      s.cwd AS cwd,
      strftime('%Y-%m-%dT%H:%M:%fZ', a.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      a.created_at_ms AS created_at_ms,
      CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - a.created_at_ms AS age_ms
    FROM approvals AS a
    JOIN sessions AS s ON s.id = a.session_id
    JOIN turns AS t ON t.id = a.turn_id
    WHERE a.state = 'pending'
    """,
    """
    CREATE VIEW failed_turns AS
    SELECT
      s.public_id AS session,
      t.public_id AS turn,
      t.number AS turn_number,
      t.error_kind AS error_kind,
      t.error_message AS error_message,
      (SELECT json_extract(n.content, '$[0].text') FROM inputs AS n WHERE n.session_id = t.session_id AND n.turn_id = t.id ORDER BY n.id LIMIT 1) AS prompt,
      substr(coalesce(s.title, (SELECT i.text FROM items AS i WHERE i.session_id = s.id AND i.turn_id IS NOT NULL AND i.role = 'user' ORDER BY i.seq LIMIT 1)), 1, 200) AS title,
      s.model AS model,
      s.cwd AS cwd,
      t.crashes AS crashes,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.created_at_ms / 1000.0, 'unixepoch') AS created_at,
      t.created_at_ms AS created_at_ms,
      strftime('%Y-%m-%dT%H:%M:%fZ', t.ended_at_ms / 1000.0, 'unixepoch') AS ended_at,
      t.ended_at_ms AS ended_at_ms
    FROM turns AS t JOIN sessions AS s ON s.id = t.session_id
    WHERE t.state = 'failed'
    """,
)

TEXT_INDEX = (
    """
    CREATE VIEW searchable AS
    SELECT
      id,
      substr(
        CASE type WHEN 'message' THEN (SELECT group_concat(json_extract(part.value, '$.text'), char(10)) FROM json_each(items.payload, '$.content') AS part)
        ELSE CASE WHEN json_valid(json_extract(payload, '$.arguments')) THEN coalesce((SELECT group_concat(word.value, ' ') FROM json_each(json_extract(payload, '$.arguments'), '$.command') AS word), (SELECT group_concat(part.atom, ' ') FROM json_tree(json_extract(payload, '$.arguments')) AS part WHERE part.type = 'text')) ELSE json_extract(payload, '$.arguments') END END,
        1, 65536
      ) AS text
    FROM items
    WHERE turn_id IS NOT NULL AND ((type = 'message' AND role IN ('user', 'assistant')) OR type = 'function_call')
    """,
    """
    CREATE VIRTUAL TABLE search USING fts5(
      text, content='searchable', content_rowid='id', columnsize=0, tokenize='unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER items_found AFTER INSERT ON items
    WHEN NEW.turn_id IS NOT NULL AND ((NEW.type = 'message' AND NEW.role IN ('user', 'assistant')) OR NEW.type = 'function_call')
    BEGIN
      INSERT INTO search (rowid, text) SELECT id, text FROM searchable WHERE id = NEW.id;
    END
    """,
    """
    CREATE TRIGGER items_lost BEFORE DELETE ON items
    WHEN OLD.turn_id IS NOT NULL AND ((OLD.type = 'message' AND OLD.role IN ('user', 'assistant')) OR OLD.type = 'function_call')
    BEGIN
      INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM searchable WHERE id = OLD.id;
    END
    """,
)

FILL = "INSERT INTO search (rowid, text) SELECT id, text FROM searchable WHERE id BETWEEN :first AND :last"


def upgrade() -> None:
    for statement in (*INDEXES, *VIEWS, *TEXT_INDEX):
        op.execute(dedent(statement).strip())
    fill()


def fill() -> None:
    """Index the items that are there, the oldest first."""
    progress = context.config.attributes.get("progress")
    last = op.get_bind().execute(text("SELECT coalesce(max(id), 0) FROM items")).scalar_one()
    for first in range(1, last + 1, ROWS_AT_ONCE):
        op.get_bind().execute(text(FILL), {"first": first, "last": first + ROWS_AT_ONCE - 1})
        if progress is not None:
            progress(min(first + ROWS_AT_ONCE - 1, last), last)


def downgrade() -> None:
    for trigger in ("items_found", "items_lost"):
        op.execute(f"DROP TRIGGER {trigger}")
    op.execute("DROP TABLE search")
    for view in (
        "searchable",
        "session_overview",
        "turn_overview",
        "transcript",
        "tool_call_log",
        "token_usage",
        "running_turns",
        "pending_approvals",
        "failed_turns",
    ):
        op.execute(f"DROP VIEW {view}")
    for index in ("sessions_by_cwd", "inputs_by_turn", "turns_failed", "model_requests_by_day"):
        op.execute(f"DROP INDEX {index}")

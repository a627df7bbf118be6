-- The schema of a new database, made by `python -m tests.migration.snapshot`; do not edit.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
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
) STRICT;
CREATE INDEX sessions_by_fork ON sessions (forked_from_id) WHERE forked_from_id IS NOT NULL;
CREATE INDEX sessions_by_update ON sessions (updated_at_ms, id);
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
) STRICT;
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
) STRICT;
CREATE INDEX approvals_by_turn ON approvals (session_id, turn_id);
CREATE INDEX approvals_pending ON approvals (session_id, id) WHERE state = 'pending';
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
) WITHOUT ROWID, STRICT;
CREATE TABLE events (
  session_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  turn_id INTEGER,
  type TEXT NOT NULL,
  msg TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (session_id, seq),
  FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
) WITHOUT ROWID, STRICT;
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
) STRICT;
CREATE UNIQUE INDEX inputs_open_one_session ON inputs (message_id) WHERE opens_session = 1 AND message_id IS NOT NULL;
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
) STRICT;
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
) STRICT;
CREATE INDEX model_requests_by_turn ON model_requests (session_id, turn_id);
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
) STRICT;
CREATE INDEX tool_calls_by_turn ON tool_calls (session_id, turn_id);
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
) STRICT;
CREATE UNIQUE INDEX turns_one_holds_session ON turns (session_id) WHERE state IN ('ready', 'running', 'waiting');
CREATE INDEX turns_queued ON turns (session_id, id) WHERE state = 'queued';
CREATE INDEX turns_ready ON turns (id) WHERE state = 'ready';
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
END;
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
END;
CREATE TRIGGER approvals_legal_moves BEFORE UPDATE OF state ON approvals
WHEN OLD.state <> NEW.state AND NOT (
        (OLD.state = 'pending' AND NEW.state = 'approved')
     OR (OLD.state = 'pending' AND NEW.state = 'denied')
     OR (OLD.state = 'pending' AND NEW.state = 'withdrawn')
)
BEGIN
  SELECT RAISE(ABORT, 'approvals: illegal change of state');
END;
CREATE INDEX sessions_by_cwd ON sessions (cwd, updated_at_ms, id);
CREATE INDEX inputs_by_turn ON inputs (session_id, turn_id);
CREATE INDEX turns_failed ON turns (ended_at_ms, id) WHERE state = 'failed';
CREATE INDEX model_requests_by_day ON model_requests (date(started_at_ms / 1000, 'unixepoch'));
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
LEFT JOIN sessions AS f ON f.id = s.forked_from_id;
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
FROM turns AS t JOIN sessions AS s ON s.id = t.session_id;
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
LEFT JOIN turns AS t ON t.id = i.turn_id;
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
LEFT JOIN turns AS t ON t.id = c.turn_id;
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
GROUP BY s.public_id, r.model, r.model_provider, date(r.started_at_ms / 1000, 'unixepoch');
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
WHERE t.state IN ('ready', 'running', 'waiting');
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
WHERE a.state = 'pending';
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
WHERE t.state = 'failed';
CREATE VIEW searchable AS
SELECT
  id,
  substr(
    CASE type WHEN 'message' THEN (SELECT group_concat(json_extract(part.value, '$.text'), char(10)) FROM json_each(items.payload, '$.content') AS part)
    ELSE CASE WHEN json_valid(json_extract(payload, '$.arguments')) THEN coalesce((SELECT group_concat(word.value, ' ') FROM json_each(json_extract(payload, '$.arguments'), '$.command') AS word), (SELECT group_concat(part.atom, ' ') FROM json_tree(json_extract(payload, '$.arguments')) AS part WHERE part.type = 'text')) ELSE json_extract(payload, '$.arguments') END END,
    1, 65536
  ) AS text
FROM items
WHERE turn_id IS NOT NULL AND ((type = 'message' AND role IN ('user', 'assistant')) OR type = 'function_call');
CREATE TRIGGER items_found AFTER INSERT ON items
WHEN NEW.turn_id IS NOT NULL AND ((NEW.type = 'message' AND NEW.role IN ('user', 'assistant')) OR NEW.type = 'function_call')
BEGIN
  INSERT INTO search (rowid, text) SELECT id, text FROM searchable WHERE id = NEW.id;
END;
CREATE TRIGGER items_lost BEFORE DELETE ON items
WHEN OLD.turn_id IS NOT NULL AND ((OLD.type = 'message' AND OLD.role IN ('user', 'assistant')) OR OLD.type = 'function_call')
BEGIN
  INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM searchable WHERE id = OLD.id;
END;
CREATE INDEX approvals_remembered ON approvals (decision, session_id)
WHERE state = 'approved' AND decision IN ('approved_for_session', 'approved_always');
CREATE VIRTUAL TABLE search USING fts5(
  text, content='searchable', content_rowid='id', columnsize=0, tokenize='unicode61 remove_diacritics 2',
  prefix='2 3'
);

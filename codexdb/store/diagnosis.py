"""What a database says about itself to somebody who asks why nothing moves: its workers, and the turns that wait."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codexdb.domain.json import decode_object
from codexdb.domain.limits import QUERY_ROWS_MAX
from codexdb.domain.session import SessionSettings
from codexdb.store import liveness
from codexdb.store.queries import ask
from codexdb.store.sessions import SETTINGS_COLUMNS, settings_from

_WORKERS = "SELECT public_id, pid, codex_home, started_at_ms FROM workers WHERE stopped_at_ms IS NULL ORDER BY id"
_WAITING = f"""\
SELECT t.public_id, s.public_id, t.created_at_ms, w.uid, w.codex_home, t.attempt,
  (SELECT e.created_at_ms FROM events AS e WHERE e.session_id = s.id AND e.seq = s.next_seq - 1), s.settings, {", ".join(f"s.{name}" for name in SETTINGS_COLUMNS)}
FROM turns AS t JOIN sessions AS s ON s.id = t.session_id LEFT JOIN workers AS w ON w.id = t.accepted_by_id
WHERE t.state = 'ready' ORDER BY t.id"""  # noqa: E501, S608 - names of ours


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker that has not said that it stopped. `lives`: its lock is held; None where its lock file is missing."""

    pid: int
    codex_home: str
    started_at_ms: int
    lives: bool | None


@dataclass(frozen=True, slots=True)
class WaitingTurn:
    """A turn that holds its session and that nobody works on."""

    turn_id: str
    session_id: str
    since_at_ms: int
    uid: int | None  # of the process that accepted it; None where that is not on record
    codex_home: str | None
    begun: bool  # some worker had it before
    touched_at_ms: int  # when something last happened in its session
    settings: SessionSettings


def open_workers(database: Path) -> list[KnownWorker]:
    """Blocks. Raises `StoreRefusedError` where there is no database, or it cannot be read."""
    found: list[KnownWorker] = []
    for row in ask(database, _WORKERS, QUERY_ROWS_MAX).rows:
        public_id, pid, home, started_at_ms = cast("tuple[str, int, str, int]", row)
        dead = liveness.prove_dead(database, public_id)
        found.append(KnownWorker(pid, home, started_at_ms, None if dead is None else not dead))
    return found


def waiting_turns(database: Path) -> list[WaitingTurn]:
    """Blocks, and raises as `open_workers` does."""
    found: list[WaitingTurn] = []
    for row in ask(database, _WAITING, QUERY_ROWS_MAX).rows:
        turn_id, session_id, since, uid, home, attempt, touched, extra, *columns = row
        settings = settings_from(dict(zip(SETTINGS_COLUMNS, columns, strict=True)), decode_object(cast("str", extra)))
        found.append(
            WaitingTurn(
                cast("str", turn_id),
                cast("str", session_id),
                cast("int", since),
                cast("int | None", uid),
                cast("str | None", home),
                bool(attempt),
                cast("int", touched),
                settings,
            )
        )
    return found

"""What the file shows of the servers at one instant: who works on what, and how far it has come."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from codexdb.domain.clock import SystemClock
from codexdb.domain.limits import CRASHES_MAX
from codexdb.store.claims import RESCUED

WAITING = "waiting for approval"
PHASES = ("mid-rescue", "acknowledging", "streaming", "call started", "between items", WAITING, "idle")
"""What a server was doing when it was killed."""

STARTING = "starting"
"""It had not come to the file yet."""

POLL_S = 0.003
RESCUE_MS = 300  # a worker that registered so lately is at its first duty: to take what the dead have left

_OPEN = "SELECT 1 FROM turns t WHERE t.state IN ('queued', 'ready', 'running', 'waiting') LIMIT 1"
_ENDANGERED = (
    "SELECT 1 FROM turns t WHERE t.state IN ('ready', 'running', 'waiting') AND t.crashes >= ? "
    "AND t.worker_id IS NOT ? LIMIT 1"
)
_WAITS = (
    "SELECT 1 FROM turns t JOIN approvals a ON a.session_id = t.session_id AND a.turn_id = t.id "
    "LEFT JOIN tool_calls c ON c.id = a.tool_call_id WHERE t.state = 'waiting' AND a.state = 'pending' "
    "AND (t.accepted_by_id = ? OR c.call_id IN (SELECT value FROM json_each(?))) LIMIT 1"
)
_LEFT = (
    "SELECT 1 FROM turns t WHERE (t.state = 'ready' AND t.crashes > 0) "
    "OR (t.state = 'running' AND t.worker_id NOT IN (SELECT value FROM json_each(?))) LIMIT 1"
)


class Scene:
    """A reader of the file, for one thread. Leave the block to close it."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def wait(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Look again and again; whether it happened in time."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def knows(self, pid: int) -> bool:
        """Whether this process has registered its worker."""
        return self._worker(pid) is not None

    def held_by(self, pid: int) -> list[int]:
        """The turns that this process works on."""
        rows = self._rows("SELECT t.id FROM turns t WHERE t.state = 'running' AND t.worker_id = ?", self._worker(pid))
        return [key for (key,) in rows]

    def waits_for(self, pid: int, asked: Collection[str] = ()) -> bool:
        """Whether a turn that this process accepted, or that waits for one of the calls that it has `asked` about on
        its connection, waits for a person.
        """
        return bool(self._rows(_WAITS, self._worker(pid), json.dumps(list(asked))))

    def pending(self) -> list[str]:
        """The calls about which a question is open."""
        rows = self._rows(
            "SELECT c.call_id FROM approvals a JOIN tool_calls c ON c.id = a.tool_call_id WHERE a.state = 'pending'"
        )
        return [call_id for (call_id,) in rows]

    def at_rest(self) -> bool:
        """Whether no turn is open."""
        return not self._rows(_OPEN)

    def endangered(self, safe_pid: int | None) -> bool:
        """Whether a turn that cost two servers their lives is held by anybody but this process, or by nobody."""
        safe = self._worker(safe_pid) if safe_pid is not None else None
        return bool(self._rows(_ENDANGERED, CRASHES_MAX - 1, safe))

    def phases_of(self, pid: int, others: Sequence[int], asked: Collection[str]) -> set[str]:
        """What the process that was just killed had been doing, but for what only the wire shows. `asked`: as in
        `waits_for`.
        """
        worker = self._worker(pid)
        if worker is None:
            return {STARTING}
        rescuing = self._young(worker) and self._left_by_dead(worker, others)
        seen = {"mid-rescue"} if rescuing or self._just_rescued(worker) else set[str]()
        if self.waits_for(pid, asked):
            seen.add(WAITING)
        for turn in self.held_by(pid):
            if self._rows("SELECT 1 FROM tool_calls WHERE turn_id = ? AND state = 'started'", turn):
                seen.add("call started")
            elif self._rows("SELECT 1 FROM deltas WHERE turn_id = ? AND type <> 'patch_intent'", turn):
                seen.add("streaming")
            else:
                seen.add("between items")
        return seen

    def _young(self, worker: int) -> bool:
        since_ms = SystemClock().now_ms() - RESCUE_MS
        return bool(self._rows("SELECT 1 FROM workers WHERE id = ? AND started_at_ms > ?", worker, since_ms))

    def _left_by_dead(self, worker: int, others: Sequence[int]) -> bool:
        """Whether turns of workers that died before wait to be taken, or to be worked on."""
        alive = [key for key in (self._worker(other) for other in others) if key is not None]
        return bool(self._rows(_LEFT, json.dumps([*alive, worker])))

    def _just_rescued(self, worker: int) -> bool:
        """Whether it had taken a dead worker's turn, and nothing had happened in it since."""
        return bool(
            self._rows(
                "SELECT 1 FROM turns t JOIN sessions s ON s.id = t.session_id "
                "JOIN events e ON e.session_id = s.id AND e.seq = s.next_seq - 1 "
                "WHERE t.state = 'running' AND t.worker_id = ? AND t.crashes > 0 "
                "AND json_extract(e.msg, '$.message') = ? LIMIT 1",
                worker,
                RESCUED,
            )
        )

    def _worker(self, pid: int) -> int | None:
        rows = self._rows("SELECT max(id) FROM workers WHERE pid = ?", pid)
        return rows[0][0]

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

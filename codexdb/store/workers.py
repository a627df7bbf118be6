"""The workers table: which processes work, and which of them are gone."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, exists, select, text, update

from codexdb.domain.worker import WorkerIdentity
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import turns, workers
from codexdb.store.transaction import Transaction

_INSERT = Statement(
    insert_into(
        workers,
        "public_id",
        "pid",
        "pid_started_at",
        "boot_id",
        "pid_namespace",
        "uid",
        "codex_home",
        "version",
        "started_at_ms",
        "heartbeat_at_monotonic_ms",
    )
)
_HEARTBEAT = Statement(
    update(workers)
    .where(workers.c.id == bindparam("key"), workers.c.stopped_at_ms.is_(None))
    .values(heartbeat_at_monotonic_ms=bindparam("monotonic_ms"))
)
_STOP = Statement(
    update(workers)
    .where(workers.c.id == bindparam("key"), workers.c.stopped_at_ms.is_(None))
    .values(stopped_at_ms=bindparam("now_ms"))
)
_STOP_IF_IDLE = Statement(
    update(workers)
    .where(
        workers.c.id == bindparam("key"),
        workers.c.stopped_at_ms.is_(None),
        ~exists(
            select(turns.c.id).where(
                text("turns.state IN ('ready', 'running', 'waiting')"), turns.c.worker_id == bindparam("key")
            )
        ),
    )
    .values(stopped_at_ms=bindparam("now_ms"))
)
OPEN_WORKERS = Statement(
    select(
        workers.c.id,
        workers.c.public_id,
        workers.c.pid,
        workers.c.pid_started_at,
        workers.c.boot_id,
        workers.c.pid_namespace,
        workers.c.uid,
        workers.c.heartbeat_at_monotonic_ms,
    )
    .where(workers.c.stopped_at_ms.is_(None), workers.c.id != bindparam("own_key"))
    .order_by(workers.c.id)
)


@dataclass(frozen=True, slots=True)
class OpenWorker:
    """A worker that has not said that it stopped. Whether it lives, its lock file tells."""

    key: int
    public_id: str
    pid: int
    pid_started_at: str
    boot_id: str
    pid_namespace: str
    uid: int
    heartbeat_at_monotonic_ms: int


def register(transaction: Transaction, identity: WorkerIdentity, now_ms: int, monotonic_ms: int) -> int:
    """A new worker; returns its integer key. Its lock file must be held already."""
    return transaction.insert(
        _INSERT,
        public_id=identity.public_id,
        pid=identity.pid,
        pid_started_at=identity.pid_started_at,
        boot_id=identity.boot_id,
        pid_namespace=identity.pid_namespace,
        uid=identity.uid,
        codex_home=identity.codex_home,
        version=identity.version,
        started_at_ms=now_ms,
        heartbeat_at_monotonic_ms=monotonic_ms,
    )


def heartbeat(transaction: Transaction, key: int, monotonic_ms: int) -> bool:
    """Whether the worker is still one; False: somebody declared it dead."""
    return transaction.run(_HEARTBEAT, key=key, monotonic_ms=monotonic_ms) == 1


def stop(transaction: Transaction, key: int, now_ms: int) -> bool:
    """Mark a worker as gone. Whether we were the one to do so."""
    return transaction.run(_STOP, key=key, now_ms=now_ms) == 1


def stop_if_idle(transaction: Transaction, key: int, now_ms: int) -> bool:
    """Mark a worker as gone unless a turn is still its own: that turn is found through it."""
    return transaction.run(_STOP_IF_IDLE, key=key, now_ms=now_ms) == 1


def open_workers(rows: list[tuple[object, ...]]) -> list[OpenWorker]:
    return [OpenWorker(*row) for row in cast("list[tuple[int, str, int, str, str, str, int, int]]", rows)]

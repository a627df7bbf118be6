"""Dead workers: found by their free lock files or their silence, their commands killed, their turns taken."""

import os
import signal

import anyio.to_thread

from codexdb.agent.tools.patch import leftovers
from codexdb.agent.tools.reaper import kill_group, started_at
from codexdb.domain import crash
from codexdb.domain.clock import Clock
from codexdb.domain.limits import LEASE_MS
from codexdb.domain.worker import RescuePolicy, WorkerIdentity
from codexdb.store import claims, liveness, patches, workers
from codexdb.store.database import Store
from codexdb.store.workers import OpenWorker


async def rescue_dead_workers(
    store: Store, own_key: int, identity: WorkerIdentity, policy: RescuePolicy, clock: Clock
) -> int:
    """Take the turns of every worker that is dead; returns how many turns that were.

    Dead is whose lock file is free, or who was silent beyond its lease. The latter may only be stopped: when it is
    woken its fence is gone, and it writes nothing. Safe to run in any number of processes at once.
    """
    taken = 0
    rows = await store.readers.all(workers.OPEN_WORKERS, {"own_key": own_key})
    for worker in workers.open_workers(rows):
        alive = _process_lives(worker, identity)
        proof = liveness.prove_dead(store.path, worker.public_id)
        gone = proof or (proof is None and not alive)
        if not gone and not _silent(worker, identity, clock):
            continue
        crash.point("rescue.found")
        await _kill_leftovers(store, worker, identity)  # also those of one that is stopped: its turns are not its own
        await _remove_staged(store, worker)
        now_ms = clock.now_ms()
        seen_at_ms = liveness.seen_at_ms(store.path, worker.public_id)
        taken += await store.writer.submit_in_order(claims.rescue_all, worker.key, policy, seen_at_ms, now_ms)
        crash.point("rescue.taken")
        await store.writer.submit_in_order(workers.stop, worker.key, now_ms)
        if gone:
            liveness.forget(store.path, worker.public_id)
    return taken


def _silent(worker: OpenWorker, identity: WorkerIdentity, clock: Clock) -> bool:
    """The clocks of two boots cannot be compared; a worker of another boot is found by its lock."""
    return worker.boot_id == identity.boot_id and clock.monotonic_ms() - worker.heartbeat_at_monotonic_ms > LEASE_MS


def _process_lives(worker: OpenWorker, identity: WorkerIdentity) -> bool:
    """Whether exactly that process is there. Where it cannot be looked up from here, it is taken for gone."""
    here = (worker.boot_id, worker.pid_namespace) == (identity.boot_id, identity.pid_namespace)
    return here and bool(worker.pid_started_at) and started_at(worker.pid) == worker.pid_started_at


async def _kill_leftovers(store: Store, worker: OpenWorker, identity: WorkerIdentity) -> None:
    """The second net: the reaper has killed them unless it was killed itself. Only exactly the same processes are."""
    same = (identity.boot_id, identity.pid_namespace, identity.uid)
    if not identity.boot_id or (worker.boot_id, worker.pid_namespace, worker.uid) != same:
        return
    for leftover in await claims.leftovers(store.readers, worker.key):
        if leftover.started_at and started_at(leftover.pid) == leftover.started_at:
            kill_group(leftover.pid, signal.SIGKILL)


async def _remove_staged(store: Store, worker: OpenWorker) -> None:
    """What its patches had laid beside their files. Those of one that is only stopped stay: it goes on with them."""
    for patch in await patches.left_by(store.readers, worker.key):
        folders = {os.path.dirname(path) for path in patch.paths}  # noqa: PTH120 - texts
        await anyio.to_thread.run_sync(leftovers.remove, folders, leftovers.run_of(patch.call))

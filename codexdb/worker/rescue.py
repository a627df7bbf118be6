"""What dead workers left: found by their free lock files, and closed."""

from codexdb.domain.clock import Clock
from codexdb.store import liveness, turns, workers
from codexdb.store.database import Store
from codexdb.worker.endings import STOPPED


async def close_dead_workers(store: Store, own_key: int, clock: Clock) -> list[str]:
    """Interrupt the turns of every worker that is proven dead; returns the turns' ids.

    A living worker's turns are never touched. Safe to run in any number of processes at once: a turn ends once.
    """
    ended: list[str] = []
    rows = await store.readers.all(workers.OPEN_WORKERS, {"own_key": own_key})
    for worker in workers.open_workers(rows):
        if not liveness.prove_dead(store.path, worker.public_id):
            continue
        now_ms = clock.now_ms()
        ended += await store.writer.submit_in_order(turns.end_all_of, worker.key, STOPPED, now_ms)
        await store.writer.submit_in_order(workers.stop, worker.key, now_ms)
        liveness.forget(store.path, worker.public_id)
    return ended

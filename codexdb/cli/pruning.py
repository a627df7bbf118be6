"""`codexdb db prune`: says what would go, asks, deletes, and returns the space."""

import click

from codexdb.cli import screen
from codexdb.cli.opening import run_alone, run_with_store
from codexdb.cli.upkeep import megabytes, minute
from codexdb.config.database import database_path
from codexdb.domain.json import JsonObject, encode
from codexdb.store.database import Store
from codexdb.store.retention import Plan, Retention, plan, prune, tidy


def run(db: str | None, retention: Retention, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Prune the database; returns the exit code."""

    async def look(store: Store) -> Plan:
        async with store.readers.snapshot() as snapshot:
            return await plan(snapshot, retention)

    going = run_with_store(db, look)
    if not as_json:
        screen.write(f"{_told(going)}\n")
    if dry_run or not going.sessions:
        _print_json(going, 0, None, None, as_json=as_json)
        return 0
    if not yes:
        screen.agree("Delete them?", "--yes")
    deleted = run_with_store(db, lambda store: _delete(store, going))
    if not as_json:
        screen.write(f"Deleted: {deleted:,} sessions.\n")
    _return_space(db, going, deleted, as_json=as_json)
    return 0


def _told(going: Plan) -> str:
    which = "sessions" if going.also_open else "archived sessions"
    if going.oldest_at_ms is None or going.newest_at_ms is None:
        return f"No {which} are to go."
    span = f"last worked on from {minute(going.oldest_at_ms)} to {minute(going.newest_at_ms)}"
    return f"To go: {going.sessions:,} {which}, {span}, about {megabytes(going.bytes_estimated)}."


async def _delete(store: Store, going: Plan) -> int:
    deleted, last, more = 0, (-1, -1), True
    with screen.progress("prune") as progress:
        while more:
            progress("prune", deleted, going.sessions)
            pruned = await store.writer.submit_in_order(prune, going, last)
            deleted, last, more = deleted + pruned.sessions, pruned.last, pruned.more
    return deleted


def _return_space(db: str | None, going: Plan, deleted: int, *, as_json: bool) -> None:
    try:
        sizes = run_alone(database_path(db), tidy)
    except click.ClickException as refused:
        if not as_json:
            screen.write(f"The file is as large as before, with room in it. {refused.message}\n")
            screen.write(f"Then `{screen.program()} db vacuum` returns the space.\n")
        _print_json(going, deleted, None, refused.message, as_json=as_json)
        return
    if not as_json:
        screen.write(f"The database had {megabytes(sizes.before)} and has {megabytes(sizes.after)} now.\n")
    _print_json(going, deleted, sizes.after, None, as_json=as_json)


def _print_json(going: Plan, deleted: int, size: int | None, refused: str | None, *, as_json: bool) -> None:
    if not as_json:
        return
    told: JsonObject = {
        "sessions": going.sessions,
        "oldest_at_ms": going.oldest_at_ms,
        "newest_at_ms": going.newest_at_ms,
        "bytes_estimated": going.bytes_estimated,
        "deleted": deleted,
        "bytes_after": size,
        "space_not_returned": refused,
    }
    screen.write(f"{encode(told)}\n")

"""A database as years of use leave it: `python -m tests.bench.big_database FILE [--sessions N --events N --schema R]`.

Most sessions are small, a few have 10,000 items. They lie interleaved in the file, as they do where several run at a
time. Commands, patches, questions, failed and interrupted turns, archived sessions: all rows are of the shapes that
the program writes, and hold what it promises of them, which is checked at the end. The same numbers make the same rows.
"""

import argparse
import random
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from codexdb.store import revision
from tests.bench.made_rows import DAY_MS, PER_TURN, Builder, Rows, Session
from tests.bench.soundness import CACHE_KIB, broken
from tests.migration.snapshot import migrated

SESSIONS, EVENTS = 100_000, 5_000_000
LONG_EVENTS = 15_500  # of a session of 10,000 items
LONG_EVERY = 5_000  # sessions
AT_A_TIME = 200  # sessions that are worked in by turns
WAITING = 12  # sessions whose last turn waits for a person
DAYS = 330
EVENTS_OF_A_TURN = 10  # about


def sizes(chance: random.Random, sessions: int, events: int) -> list[int]:
    """How many events each session gets: a few very many, most of them few."""
    long = sessions // LONG_EVERY
    shares = [chance.lognormvariate(0, 1.1) for _ in range(sessions - long)]
    rest = (events - long * LONG_EVENTS) / sum(shares)
    found = [LONG_EVENTS] * long + [max(PER_TURN + 1, round(share * rest)) for share in shares]
    chance.shuffle(found)
    return found


def build(path: Path, sessions: int = SESSIONS, events: int = EVENTS, schema: str = revision.HEAD) -> int:
    """Make the database; returns the number of events, which is about what was asked for."""
    if schema == revision.HEAD:
        revision.prepare(path)
    else:
        migrated(path, schema)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        made = _fill(connection, sessions, events)
        connection.execute("PRAGMA journal_mode=WAL")
    return made


def _fill(connection: sqlite3.Connection, sessions: int, events: int) -> int:
    connection.execute(
        "INSERT INTO workers (id, public_id, pid, pid_started_at, boot_id, pid_namespace, uid, codex_home, version, "
        "started_at_ms, heartbeat_at_monotonic_ms, stopped_at_ms) VALUES (1, 'w', 1, '1', '', '', 0, '/', '0', 0, 0, 1)"
    )
    builder = Builder(Rows(connection))
    left = list(enumerate(sizes(builder.chance, sessions, events), 1))[::-1]
    span_ms = DAYS * DAY_MS * EVENTS_OF_A_TURN / events  # between two turns
    open_ones: list[Session] = []
    while left or open_ones:
        if left and len(open_ones) < AT_A_TIME:
            key, size = left.pop()
            open_ones.append(builder.open(key, size, waits=len(left) < WAITING))
        builder.now_ms += int(builder.chance.expovariate(1 / span_ms))
        place = builder.chance.randrange(len(open_ones))
        builder.turn(open_ones[place])
        if open_ones[place].events_left <= 0:
            builder.close(open_ones[place])
            open_ones[place] = open_ones[-1]
            open_ones.pop()
        builder.rows.flush()
        _progress(builder.events, events)
    builder.rows.flush(at_least=0)
    connection.execute("COMMIT")
    return builder.events


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty() and done % 1_000 < 20:
        sys.stderr.write(f"\r{done:>12,} of {of:,} events")


def main() -> None:
    """Make it, check it, say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--schema", default=revision.HEAD)
    options = parser.parse_args()
    if options.file.exists():
        raise SystemExit(f"{options.file} is there already.")
    began = time.monotonic()
    made = build(options.file, options.sessions, options.events, options.schema)
    size, took = options.file.stat().st_size / 2**20, time.monotonic() - began
    tell = sys.stdout.write
    tell(f"{options.sessions:,} sessions, {made:,} events, {size:,.0f} MiB, made in {took:.0f} s\n")
    faults = broken(options.file)
    tell(f"checked in {time.monotonic() - began - took:.0f} s: {faults or 'sound'}\n")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()

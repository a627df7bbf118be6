"""How long a long session takes to be read and shown: `python -m tests.bench.transcript [--items 10000]`.

The session is made by the store, as the worker makes it: turns with messages, commands and their events. Prints the
medians of reading it and of each way of showing it, in milliseconds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio

from codexdb.cli.transcript_view import as_json, as_text
from codexdb.domain import event
from codexdb.domain.event import Event
from codexdb.domain.ids import new_id
from codexdb.domain.item import assistant_message, function_call, function_call_output
from codexdb.domain.outcome import Started
from codexdb.domain.record import (
    CallDecided,
    CallEnded,
    CallProposed,
    CallStarted,
    Entry,
    NewItem,
    RequestEnded,
    Usage,
)
from codexdb.domain.transcript import Transcript
from codexdb.domain.worker import Claim
from codexdb.service.transcript import read_transcript
from codexdb.store import endings, record, turns
from codexdb.store.database import Store, open_store
from codexdb.store.transcripts import session_rows
from tests.store.making import ANSWERED, CLOCK, new_message, register, running_turn

ITEMS = 10_000
TURNS = 100
RUNS = 15
PRINTED = "".join(f"src/module_{number}.py:{number}: a line that was found\n" for number in range(12))
SAID = "The reader decides where a line ends; the parser keeps what it has and waits for the rest of it. " * 3


def entries(number: int) -> Sequence[Entry]:
    """Three items: a message, a call, its output."""
    call, call_id = new_id(), f"call_{number}"
    command = ["rg", "-n", f"line_{number}", "src"]
    usage = Usage(1_000 + number, 800, 120, 20, 1_120 + number)
    now = CLOCK.now_ms()
    told = json.dumps({"output": PRINTED, "metadata": {"exit_code": 0, "duration_seconds": 0.1}})
    begin: Event = event.exec_command_begin(call_id, command, "/")
    end: Event = event.exec_command_end(call_id, PRINTED, "", 0, 10_000_000)
    arguments = json.dumps({"command": command})
    return (
        Entry(items=[NewItem(assistant_message(SAID))], events=[event.agent_message(SAID)]),
        Entry(
            calls=[CallProposed(call, call_id, "shell", arguments)],
            items=[NewItem(function_call(call_id, "shell", arguments))],
            request=RequestEnded("model", "scripted", now, now, now, usage, 0, None),
        ),
        Entry(calls=[CallDecided(call, approved=True), CallStarted(call)], events=[begin]),
        Entry(
            calls=[CallEnded(call, "succeeded", 0, PRINTED)],
            items=[NewItem(function_call_output(call_id, told))],
            events=[end],
        ),
    )


async def make(store: Store, items: int) -> str:
    """A session with about so many items; returns its id."""
    worker = await register(store)
    claim = await running_turn(store, worker)
    rounds = max(1, items // TURNS // 3)
    for turn in range(TURNS):
        for number in range(rounds):
            async with anyio.create_task_group() as group:
                for entry in entries(turn * rounds + number):
                    group.start_soon(partial(_append, store, claim, entry))
        await store.writer.submit(endings.end, claim, ANSWERED, CLOCK.now_ms())
        if turn < TURNS - 1:
            outcome = await store.writer.submit(turns.start, claim.session_id, new_message(worker, f"question {turn}"))
            assert isinstance(outcome, Started)
            claim = store.feed.claims.pop()
    return claim.session_id


async def _append(store: Store, claim: Claim, entry: Entry) -> None:
    assert await store.writer.submit_in_order(record.append, claim, entry, CLOCK.now_ms())


def median_ms(work: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1_000)
    return statistics.median(taken)


def _shown(transcript: Transcript) -> dict[str, Callable[[], object]]:
    return {
        "shown on a terminal": lambda: as_text(transcript, transcript.turns, width=100),
        "shown as plain text": lambda: as_text(transcript, transcript.turns, width=None),
        "shown as JSON": lambda: list(as_json(transcript, transcript.turns)),
    }


async def measure(path: Path, items: int) -> None:
    """Make, read, show, print."""
    tell = sys.stdout.write
    async with open_store(path) as store:
        session = await make(store, items)
        taken: list[float] = []
        transcript: Transcript | None = None
        for _ in range(RUNS):
            began = time.perf_counter()
            transcript = await read_transcript(store.readers, session)
            taken.append((time.perf_counter() - began) * 1_000)
        rows = await session_rows(store.readers, session)
        assert rows is not None
        assert transcript is not None
    tell(f"{len(rows.items)} items, {len(rows.calls)} calls, {len(rows.turns)} turns\n")
    tell(f"read and built: {statistics.median(taken):.0f} ms\n")
    for name, work in _shown(transcript).items():
        tell(f"{name}: {median_ms(work):.0f} ms\n")


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(measure, Path(folder) / "bench.sqlite3", items)


if __name__ == "__main__":
    main()

"""`codexdb torture`: kill real servers on this machine, in a folder of their own, and show what became of the work."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from codexdb.testing.torture import Report, Torture
from codexdb.testing.torture_scene import PHASES, STARTING

SHOWN_MAX = 20  # of what went wrong; the JSON holds all of it


def run(kills: int, seed: int, folder: Path, as_json: bool) -> int:  # noqa: FBT001 - the command line's own shape
    """Torture `kills` times in a new folder below `folder`; the exit code: 1 where a promise broke.

    The new folder is removed, unless something broke: then its name is shown. Progress goes to stderr, the outcome to
    stdout.
    """
    scratch = folder / f"torture-{seed}"
    with _shown_progress(kills) as progress:
        report = Torture(scratch, seed, progress).run(kills)
    if as_json:
        sys.stdout.write(json.dumps(as_object(report), indent=2) + "\n")
    else:
        _show(report)
    if report.kept_its_promises:
        shutil.rmtree(scratch)
        return 0
    return 1


def as_object(report: Report) -> dict[str, object]:
    """The report for programs. The names are stable."""
    found = report.findings
    return {
        "kills": report.kills,
        "seed": report.seed,
        "duration_ms": round(report.duration_s * 1000),
        "kills_by_phase": {phase: report.phases[phase] for phase in (*PHASES, STARTING)},
        "sessions": report.sessions,
        "turns": found.turns,
        "messages": {
            "acknowledged": found.acknowledged,
            "kept": found.kept,
            "lost": found.lost,
            "delivered_twice": found.delivered_twice,
            "repeated": report.repeated,
        },
        "commands": {"run": found.commands, "run_twice": found.run_twice, "unknown": found.unknown},
        "questions": {
            "asked": found.questions,
            "open_at_kills": found.open_at_kills,
            "lost": found.questions_lost,
            "asked_twice": found.asked_twice,
            "run_without_a_yes": found.run_without_a_yes,
        },
        "events": {"recorded": found.events, "seen": found.events_seen},
        "turns_hit": found.hit,
        "turns_resumed": found.resumed,
        "resumed_percent": round(found.resumed_percent, 2),
        "not_resumed": found.not_resumed,
        "broken": found.broken,
        "folder": None if report.kept_its_promises else str(report.folder),
    }


@contextmanager
def _shown_progress(kills: int) -> Generator[Callable[[int, Counter[str]], None]]:
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("killing servers", total=kills)

        def update(done: int, phases: Counter[str]) -> None:
            last = "settling" if done >= kills else f"killing servers ({len(phases)} phases hit)"
            bar.update(task, completed=done, description=last)

        yield update


def _show(report: Report) -> None:
    console = Console()
    found = report.findings
    table = Table(title=f"{report.kills} kills in {report.duration_s:.0f} s, seed {report.seed}")
    table.add_column("what")
    table.add_column("count", justify="right")
    rows = [
        ("messages acknowledged", found.acknowledged),
        ("  kept", found.kept),
        ("  lost", found.lost),
        ("  delivered twice", found.delivered_twice),
        ("commands run", found.commands),
        ("  run twice", found.run_twice),
        ("  cut off, and the model told so", found.unknown),
        ("questions asked", found.questions),
        ("  open at a kill", found.open_at_kills),
        ("  lost", found.questions_lost),
        ("  asked twice on one connection", found.asked_twice),
        ("  run without a yes", found.run_without_a_yes),
        ("turns hit by a kill", found.hit),
        ("  resumed to the end", f"{found.resumed} ({found.resumed_percent:.1f} %)"),
        *((f"killed: {phase}", report.phases[phase]) for phase in (*PHASES, STARTING) if report.phases[phase]),
        ("promises broken", len(found.broken)),
    ]
    for what, count in rows:
        table.add_row(what, str(count))
    console.print(table)
    for line in [*found.not_resumed, *found.broken][:SHOWN_MAX]:
        console.print(line, markup=False, highlight=False)
    if not report.kept_its_promises:
        console.print(f"Kept for a closer look: {report.folder}", markup=False, highlight=False)

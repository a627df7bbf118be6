"""`codexdb doctor`: what is in order here, what is not, and what to do about it."""

import os
import platform
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import codexdb
from codexdb.cli import screen, wording
from codexdb.config.files import codex_home, read_config
from codexdb.config.resolve import Request, resolve
from codexdb.config.source import ConfigSource
from codexdb.domain.clock import SystemClock
from codexdb.domain.errors import CodexDBError, CredentialsMissingError, StoreBusyError
from codexdb.domain.json import encode
from codexdb.domain.limits import RESUME_AGE_MS_MAX
from codexdb.store import diagnosis, revision
from codexdb.store.pragmas import SQLITE_MIN

Verdict = Literal["ok", "note", "wrong"]

WAL_RESET_MENDED = (3, 51, 3)  # older ones can damage a file when two processes checkpoint at once
_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` is empty where nothing is to be done."""

    about: str
    verdict: Verdict
    found: str
    advice: str = ""


def run(database: Path, *, as_json: bool) -> int:
    """Print what was found; returns 1 where something is wrong."""
    findings = list(_findings(database))
    if as_json:
        screen.write("".join(f"{encode(asdict(each))}\n" for each in findings))
    else:
        _print(findings)
    return int(any(each.verdict == "wrong" for each in findings))


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    console = screen.console()
    width = max(len(each.about) for each in findings)
    for each in findings:
        line = Text(f"{each.verdict:<6}", style=_STYLES[each.verdict]).append(f"{each.about:<{width}}  ", style="bold")
        console.print(line.append(screen.harmless(each.found), style="default"), soft_wrap=True)
        if each.advice:
            console.print(Text(f"{'':<{8 + width}}{screen.harmless(each.advice)}", style="dim"), soft_wrap=True)


def _findings(database: Path) -> Iterator[Finding]:
    yield Finding("program", "ok", f"codexdb {codexdb.__version__}, Python {platform.python_version()}")
    yield _sqlite()
    yield from _configuration()
    yield from _sandbox()
    yield from _database(database)


def _sqlite() -> Finding:
    version = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN))
        return Finding("SQLite", "wrong", version, f"codexdb needs {needed} or newer: use a newer build of Python.")
    if sqlite3.sqlite_version_info < WAL_RESET_MENDED:
        kept_away = "its fault with two checkpoints at once is kept away by codexdb's own lock"
        return Finding("SQLite", "ok", f"{version}; {kept_away}")
    return Finding("SQLite", "ok", version)


def _configuration() -> Iterator[Finding]:
    try:
        home = codex_home(os.environ)
        file = read_config(home)
        resolved = resolve(Request(), home=home, environ=os.environ, server_cwd=Path.cwd())
    except (CodexDBError, OSError) as error:
        yield Finding("configuration", "wrong", str(error).strip(), "Mend config.toml, or name another CODEX_HOME.")
        return
    what = str(file.path) if file.tree else f"{file.path} (absent or empty: the defaults hold)"
    unknown = f"unknown keys, which nobody reads: {', '.join(resolved.unknown_keys)}" if resolved.unknown_keys else ""
    yield Finding("configuration", "note" if unknown else "ok", what, unknown)
    provider, settings = resolved.provider, resolved.settings
    model = f"{settings.model} at {provider.id} ({provider.wire_api})"
    if missing := provider.missing_key(os.environ):
        yield Finding("model", "wrong", model, f"The variable {missing} holds no key: turns cannot be worked here.")
    else:
        yield Finding("model", "ok", model)


def _sandbox() -> Iterator[Finding]:
    from codexdb.agent.sandbox.choice import survey

    found = survey()
    works = any(each.why_not is None for each in found)
    advice = "" if works else "Nothing can hold commands to read-only or workspace-write. On Linux, install bubblewrap."
    for each in found:
        if each.why_not is None:
            yield Finding("sandbox", "ok", f"{each.what}: works")
        else:
            yield Finding("sandbox", "note", f"{each.what}: {each.why_not}", advice)


def _database(database: Path) -> Iterator[Finding]:
    if not database.exists():
        yield Finding("database", "note", f"{database} is not there yet", "The first `codexdb serve` makes it.")
        return
    try:
        schema = revision.look(database)
    except StoreBusyError as error:
        yield Finding(
            "database", "wrong", error.message, "Try again; if it stays so, see which program holds the file."
        )
    except CodexDBError as error:
        yield Finding("database", "wrong", error.message)
    else:
        size = f"{database.stat().st_size / 1_000_000:.1f} MB"
        if schema is None:
            yield Finding("database", "note", f"{database} is empty", "The first `codexdb serve` makes its tables.")
            return
        if schema != revision.HEAD:
            older = f"This codexdb wants {revision.HEAD}: `codexdb db upgrade`, or the next server, upgrades it."
            yield Finding("database", "note", f"{database}, {size}, schema {schema}", older)
            return
        yield Finding("database", "ok", f"{database}, {size}, schema {schema}")
        yield from _work(database)


def _work(database: Path) -> Iterator[Finding]:
    try:
        workers = diagnosis.open_workers(database)
        waiting = diagnosis.waiting_turns(database)
    except CodexDBError as error:
        yield Finding("work", "wrong", error.message, "See whether another program holds the file.")
        return
    for worker in workers:
        began = wording.moment(worker.started_at_ms)
        since = f"process {worker.pid}, since {began} UTC, CODEX_HOME {worker.codex_home}"
        if worker.lives is False:
            yield Finding("worker", "note", f"{since}: dead", "The next server or `codexdb worker` takes its turns.")
        else:
            yield Finding("worker", "ok", since)
    for turn in waiting:
        began = wording.moment(turn.since_at_ms)
        what = f"{turn.turn_id} of session {turn.session_id}, since {began} UTC: waits for a worker"
        yield Finding("turn", "note", what, _why(turn))
    if not waiting:
        yield Finding("turns", "ok", "none waits for a worker")


def _why(turn: diagnosis.WaitingTurn) -> str:  # noqa: PLR0911 - one reason after another
    """Why nobody takes it, as far as that can be seen from here."""
    if turn.uid is not None and turn.uid != os.getuid():
        return f"It was accepted by user {turn.uid}: only that user's processes take it."
    try:
        home = codex_home(os.environ)
    except CodexDBError as error:
        return f"{error.message}."
    if turn.codex_home is not None and turn.codex_home != str(home):
        return f"It was accepted under CODEX_HOME={turn.codex_home}: start a server or `codexdb worker` under that."
    if turn.begun and SystemClock().now_ms() - turn.touched_at_ms > RESUME_AGE_MS_MAX:
        return "It was left alone for too long: whoever takes it interrupts it, unless --resume-max-age is longer."
    try:
        provider = ConfigSource(home, Path(turn.settings.cwd)).reopen(turn.settings, None).provider
    except CredentialsMissingError as error:
        return f"Whoever takes it ends it as failed: {error.message}."
    except CodexDBError:
        return "Start a server or `codexdb worker` on this database: it says what is wrong with the configuration."
    if missing := provider.missing_key(os.environ):
        return f"Its provider's key is missing: start a server or `codexdb worker` with {missing} set."
    return "Start a server or `codexdb worker` on this database, and it goes on."

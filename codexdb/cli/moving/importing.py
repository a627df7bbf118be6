"""Taking sessions in: files are read and checked on a thread, and those that are on their way share commits."""

import os
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from codexdb.cli import screen
from codexdb.cli.moving.exports import ChangedError, Section, is_header, sections
from codexdb.cli.moving.lines import BadLineError, Fault, lines
from codexdb.cli.moving.progress import Progress
from codexdb.cli.moving.rollout import Converted, converted
from codexdb.cli.moving.rollout_file import read_rollout
from codexdb.cli.opening import run_with_store
from codexdb.config.files import codex_home
from codexdb.config.resolve import Request, resolve
from codexdb.domain.errors import CodexDBError
from codexdb.domain.foreign_file import open_regular
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.limits import IMPORT_BYTES_MAX, IMPORT_SESSIONS_MAX
from codexdb.domain.session import SessionSettings
from codexdb.store.database import Store
from codexdb.store.imports import Became, Outcome, import_rollout, import_whole

if TYPE_CHECKING:
    import asyncio

ROLLOUTS = "rollout-*.jsonl"

_T = TypeVar("_T")


@dataclass(slots=True)
class Found:
    """Something of a file that is on its way: a session, or faults alone."""

    path: Path
    what: Section | Converted | None
    faults: list[Fault] = field(default_factory=list[Fault])

    @property
    def size(self) -> int:
        return 0 if self.what is None else self.what.size


def run(db: str | None, paths: Sequence[Path], *, codex: bool, as_json: bool) -> int:
    """Import these files, the rollouts in these folders, and with `codex` those of Codex; returns the exit code."""

    async def work(store: Store) -> int:
        kept = [codex_home(os.environ) / "sessions"] if codex else []
        files = list(_files([*paths, *kept]))
        total = sum(path.stat().st_size for path in files if path.is_file())
        with Progress("Importing", "sessions", total, shown=not as_json) as progress:
            return await Import(store, progress, as_json=as_json).run(files)

    return run_with_store(db, work, create=True)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files to import, each folder's in the order of their names, which is that of time."""
    for path in paths:
        if path.is_dir():
            yield from sorted(_rollouts(path))
        else:
            yield path


def _rollouts(folder: Path) -> Iterator[Path]:
    """Those below the folder, and below what is linked there; of folders that lead to each other, each is read once."""
    seen: set[tuple[int, int]] = set()
    for root, below, names in os.walk(folder, followlinks=True):
        status = os.stat(root)  # noqa: PTH116 - a text, as `walk` gives it
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (path for name in names if fnmatch(name, ROLLOUTS) and (path := Path(root, name)).is_file())


@cache
def _defaults() -> SessionSettings:
    """What a session has of which its file does not tell: as a new one here."""
    home = codex_home(os.environ)
    return resolve(Request(), home=home, environ=os.environ, server_cwd=Path.cwd()).settings


class Import:
    """One run over many files. Outcomes are told in the order of the files, each behind its commit."""

    def __init__(self, store: Store, progress: Progress, *, as_json: bool) -> None:
        self._store = store
        self._progress = progress
        self._as_json = as_json
        self._under_way: deque[tuple[Found, asyncio.Future[Outcome] | None]] = deque()
        self._bytes = 0
        self._became: Counter[str] = Counter()
        self._faults = 0
        self._unseen: Counter[str] = Counter()

    async def run(self, files: Sequence[Path]) -> int:
        for path in files:
            async for found in self._found(path):
                while self._under_way and self._is_full(found.size):
                    await self._settle()
                self._under_way.append((found, self._submit(found)))
                self._bytes += found.size
        while self._under_way:
            await self._settle()
        self._sum_up(len(files))
        return 1 if self._faults else 0

    def _is_full(self, more: int) -> bool:
        return len(self._under_way) >= IMPORT_SESSIONS_MAX or self._bytes + more > IMPORT_BYTES_MAX

    def _submit(self, found: Found) -> "asyncio.Future[Outcome] | None":
        match found.what:
            case Section():
                return self._store.writer.submit_in_order(import_whole, found.what.whole)
            case Converted():
                return self._store.writer.submit_in_order(import_rollout, found.what.rollout)
            case None:
                return None

    async def _found(self, path: Path) -> AsyncIterator[Found]:
        """What a file holds."""
        try:
            if not await anyio.to_thread.run_sync(_is_export, path):
                yield await anyio.to_thread.run_sync(_read_rollout, path, _defaults())
                return
            each = sections(path)
            while (found := await anyio.to_thread.run_sync(_next, each)) is not None:
                yield Found(path, None, [found]) if isinstance(found, Fault) else Found(path, found)
        except OSError as error:
            yield Found(path, None, [Fault(path, 0, f"the file cannot be read: {error.strerror or error}")])

    # -- telling -------------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait for the oldest that is under way, and tell what became of it."""
        found, future = self._under_way.popleft()
        self._bytes -= found.size
        outcome: Outcome | None = None
        if future is not None:
            outcome = await self._outcome(found, future)
            if outcome is not None:
                self._became[outcome.became] += 1
                if outcome.became is Became.REFUSED:
                    found.faults.append(_refused(found, outcome))
        self._faults += len(found.faults)
        if isinstance(found.what, Converted):
            self._unseen += found.what.unseen
        if self._as_json:
            screen.write(f"{encode(_told(found, outcome))}\n")
        else:
            screen.write("".join(f"{screen.harmless(str(fault))}\n" for fault in found.faults), err=True)
        self._progress.advance(found.size)

    async def _outcome(self, found: Found, future: "asyncio.Future[Outcome]") -> Outcome | None:
        try:
            return await future
        except (ChangedError, OSError):
            found.faults.append(Fault(found.path, 0, "the file was changed while it was read; nothing of it was kept"))
        except CodexDBError as error:
            found.faults.append(Fault(found.path, 0, error.message))
        return None

    def _sum_up(self, files: int) -> None:
        count = {each: self._became[each] for each in Became}
        if self._as_json:
            total: JsonObject = {"files": files, **count, "faults": self._faults}
            screen.write(f"{encode(total)}\n")
            return
        screen.write(
            f"{files:,} files: {count[Became.IMPORTED]:,} sessions imported, {count[Became.GROWN]:,} grown, "
            f"{count[Became.UNCHANGED]:,} here already, {count[Became.REFUSED]:,} refused; {self._faults:,} faults.\n"
        )
        if self._unseen:
            told = ", ".join(f"{screen.harmless(kind)} ({count:,})" for kind, count in sorted(self._unseen.items()))
            screen.write(f"Kept, though the model does not see it: {told}.\n")


def _refused(found: Found, outcome: Outcome) -> Fault:
    line = outcome.line or (found.what.line if isinstance(found.what, Section) else 0)
    return Fault(found.path, line, f"session {outcome.session_id}: {outcome.reason}")


def _told(found: Found, outcome: Outcome | None) -> JsonObject:
    unseen = dict(found.what.unseen) if isinstance(found.what, Converted) else {}
    return {
        "file": os.fsencode(found.path).decode(errors="replace"),
        "session_id": None if outcome is None else outcome.session_id,
        "outcome": None if outcome is None else outcome.became.value,
        "faults": [{"line": fault.line, "reason": fault.reason} for fault in found.faults],
        "unseen": unseen,
    }


# -- on a thread -------------------------------------------------------------------------------------------------------


def _is_export(path: Path) -> bool:
    """Whether the file says that it is an export, of whatever version."""
    if not path.is_file():
        raise FileNotFoundError(2, "it is no file")
    with os.fdopen(open_regular(path), "rb") as file:
        first = next(lines(file), None)
    try:
        return first is not None and is_header(first.read())
    except BadLineError:
        return False


def _read_rollout(path: Path, defaults: SessionSettings) -> Found:
    if not _is_text(path.name):
        return Found(path, None, [Fault(path, 0, "a rollout is known again by its name, and this one is no UTF-8")])
    file = read_rollout(path)
    if isinstance(file, Fault):
        return Found(path, None, [file])
    try:
        return Found(path, converted(file, defaults), list(file.faults))
    except BadLineError as error:
        return Found(path, None, [*file.faults, Fault(path, 0, f"no session can be made of it: {error}")])


def _is_text(name: str) -> bool:
    """Whether all bytes of a file's name are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _next(each: Iterator[_T]) -> _T | None:
    return next(each, None)

"""A verified patch becomes files: staged beside them, renamed into place, taken back if anything fails.

Each file is at any instant the old one or the new one, whole, whatever kills the process. All of them together are one
or the other when `apply` returns; a kill in between leaves some of each.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass

from codexdb.agent.tools.patch import disk, leftovers
from codexdb.agent.tools.patch.disk import NO_FILES, Image, Unusable
from codexdb.agent.tools.patch.verify import FileChange, Plan
from codexdb.agent.tools.patch.wording import os_text
from codexdb.domain import crash
from codexdb.domain.limits import PATCH_FILE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Applied:
    """Every change is on the disk. `text` is what the model reads."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing has changed, but for the paths in `left`, where undoing failed as well. `text` tells the model."""

    text: str
    left: tuple[str, ...] = ()


def apply(
    plan: Plan, *, run_name: str | None = None, keep_off: frozenset[tuple[int, int]] = NO_FILES
) -> Applied | Failed:
    """Carry out the plan, all of it or nothing. What lies beside the files meanwhile is called by `run_name`.

    Content, permission bits and owner of what is not changed stay; a replaced file is a new inode. Files that somebody
    changed since the plan was made are a failure. What killed runs left in the same folders is removed. Blocks until
    everything is on the disk. An exception from outside (a signal's) undoes everything and goes on.
    """
    if plan.obstacle is not None:
        return Failed(plan.obstacle)
    run = _Run(plan, run_name or leftovers.new_run(), keep_off)
    try:
        run.check()
        run.stage()
        run.commit()
    except _Stopped as stopped:
        left = run.undo()
        text = str(stopped)
        return Failed(f"{text}\nThis could not be undone: {', '.join(left)}" if left else text, left)
    except BaseException:
        run.undo()
        raise
    run.close()
    return Applied(plan.success)


class _Stopped(Exception):  # noqa: N818 - ends in a text, in `apply`
    pass


@contextlib.contextmanager
def _or_stop(what: str) -> Generator[None]:
    try:
        yield
    except (OSError, Unusable) as error:
        why = os_text(error) if isinstance(error, OSError) else str(error)
        raise _Stopped(f"{what}: {why}") from error


def _failing(change: FileChange) -> str:
    return f"Failed to {'delete' if change.after is None else 'write'} file {change.given}"


class _Run:
    def __init__(self, plan: Plan, name: str, keep_off: frozenset[tuple[int, int]]) -> None:
        self._changes = [each for each in plan.changes if each.after is not None or each.before.exists]
        self._keep_off = keep_off
        self._name = name
        self._cwd = plan.cwd
        self._locks: dict[str, int] = {}  # by folder
        self._folders: list[str] = []  # that were made
        self._back: list[tuple[str, Callable[[], None]]] = []  # what may have changed, and its way back

    def check(self) -> None:
        """Everything is as it was when the plan was made.

        Raises:
            _Stopped: it is not.
        """
        leftovers.sweep({_folder(change) for change in self._changes})
        for change in self._changes:
            with _or_stop(_failing(change)):
                place = disk.place(self._cwd, change.given)
                now = disk.look(change.path, PATCH_FILE_BYTES_MAX, self._keep_off)
                if change.path not in (place.real, place.entry) or not _same(change.before, now):
                    raise Unusable("somebody else has changed it since the patch was verified")
                if change.after is not None and now.exists and not os.access(change.path, os.W_OK):
                    raise PermissionError(errno.EACCES, "")

    def stage(self) -> None:
        """New contents and ways back lie beside the files, on the disk.

        Raises:
            _Stopped: there is no room, no permission, a file where a folder should be.
        """
        for number, change in enumerate(self._changes):
            folder = _folder(change)
            with _or_stop(f"Failed to create parent directories for {change.given}"):
                self._make_folders(folder)
            with _or_stop(_failing(change)):
                if folder not in self._locks:
                    self._locks[folder] = leftovers.lock(folder, self._name)
                if change.after is not None:
                    _write(self._temporary(number, "new"), change.after, change.mode, change.owner)
                    if change.before.exists:
                        _keep(change, self._temporary(number, "old"))

    def commit(self) -> None:
        """The new files take their places, then what is to go goes.

        Raises:
            _Stopped: one could not.
        """
        crash.point("patch.staged")
        for number, change in enumerate(self._changes):
            if change.after is not None:
                with _or_stop(_failing(change)):
                    self._replace(number, change)
                crash.point("patch.replaced")
        for number, change in enumerate(self._changes):
            if change.after is None:
                with _or_stop(_failing(change)):
                    self._remove(number, change)
        for folder in {*self._locks, *map(os.path.dirname, self._folders)}:
            _sync_folder(folder)

    def undo(self) -> tuple[str, ...]:
        """Take back what was done so far; the paths where that failed."""
        left: list[str] = []
        for path, back in reversed(self._back):
            try:
                back()
            except FileNotFoundError:  # it had not happened yet
                pass
            except OSError:
                left.append(path)
        self.close()
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):  # somebody else uses it by now
                os.rmdir(folder)
        return tuple(left)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _temporary(self, number: int, suffix: str) -> str:
        return leftovers.path(_folder(self._changes[number]), self._name, f"{number}.{suffix}")

    def _make_folders(self, folder: str) -> None:
        missing: list[str] = []
        at = folder
        while not os.path.lexists(at):
            missing.append(at)
            at = os.path.dirname(at)
        for path in reversed(missing):
            self._folders.append(path)
            os.mkdir(path)
        if os.path.realpath(folder) != folder:
            raise Unusable("somebody else has changed it since the patch was verified")

    def _replace(self, number: int, change: FileChange) -> None:
        def back() -> None:
            if change.before.exists:
                os.replace(self._temporary(number, "old"), change.path)
            else:
                os.unlink(change.path)

        self._back.append((change.path, back))
        os.replace(self._temporary(number, "new"), change.path)

    def _remove(self, number: int, change: FileChange) -> None:
        old = self._temporary(number, "old")
        self._back.append((change.path, lambda: os.replace(old, change.path)))
        os.replace(change.path, old)

    def close(self) -> None:
        """Nothing temporary stays, unless the disk refuses; then a later run removes it."""
        for number in range(len(self._changes)):
            for suffix in ("new", "old"):
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary(number, suffix))
        for folder, descriptor in self._locks.items():
            with contextlib.suppress(OSError):
                os.unlink(leftovers.path(folder, self._name, "lock"))
            os.close(descriptor)
        self._locks.clear()


def _folder(change: FileChange) -> str:
    return os.path.dirname(change.path)


def _same(before: Image, now: Image) -> bool:
    return before == now if before.kept else before.identity == now.identity


def _write(path: str, content: bytes, mode: int | None, owner: tuple[int, int] | None) -> None:
    """A new file with that content, on the disk before this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666 if mode is None else 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if mode is not None:
            if owner is not None:
                with contextlib.suppress(OSError):  # only root may give files away
                    os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _keep(change: FileChange, path: str) -> None:
    """The present file under a second name, or a copy of it where the disk has no second names."""
    try:
        os.link(change.path, path, follow_symlinks=False)
    except OSError:
        if change.before.content is None:
            raise
        _write(path, change.before.content, change.before.mode, change.before.owner)


def _sync_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

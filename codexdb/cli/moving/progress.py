"""How far long work has come: a bar on a terminal, else a line now and then. On stderr, in nobody's way."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from codexdb.cli import screen

if TYPE_CHECKING:
    import rich.progress

EVERY = 1_000  # so many are told of by one line, where there is no terminal


class Progress:
    """Counts what is done, and how much of `total` that is. Not `shown`: silent."""

    def __init__(self, doing: str, what: str, total: int, *, shown: bool = True) -> None:
        self._doing, self._what, self._total = doing, what, total
        self._shown = shown
        self._count = 0
        self._done = 0
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        if self._shown and self._total > 1 and sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            counted = TextColumn(f"{{task.fields[count]:,}} {self._what}")
            columns = (TextColumn(self._doing), BarColumn(), TaskProgressColumn(), counted, TimeRemainingColumn())
            self._bar = Progress(*columns, console=screen.console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._doing, total=self._total, count=0)
            self._bar.start()
        return self

    def advance(self, by: int = 1) -> None:
        """One more is done, which is so much of the whole."""
        self._count += 1
        self._done += by
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, count=self._count)
        elif self._shown and self._count % EVERY == 0:
            share = 100 * self._done // max(1, self._total)
            screen.write(f"{self._doing}: {self._count:,} {self._what}, {share} %\n", err=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

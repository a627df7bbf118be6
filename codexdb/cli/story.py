"""How the demo tells what it does: steps, tables and promises; coloured on a terminal, plain lines anywhere else."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from codexdb.cli import screen
from codexdb.store.queries import Answer


class Story:
    """Told to a person, or to nobody (`quiet`) where a program reads the summary."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = screen.console()
        self._console.quiet = quiet
        self._steps = 0

    def title(self, text: str) -> None:
        self._console.print(text, style="bold", soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, style=style, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Generator[None]:
        """A step that takes a moment: said when it begins, with its time when it is done."""
        self._steps += 1
        began = time.monotonic()
        self._console.print(f"\n{self._steps}. {text}", style="bold", soft_wrap=True)
        with self._console.status("working …"):
            yield
        self._console.print(f"   done in {time.monotonic() - began:.2f} s", style="dim", soft_wrap=True)

    def detail(self, text: str, *, error: bool = False) -> None:
        for line in screen.harmless(text).splitlines():
            self._console.print(f"   {line}", style="red" if error else "", soft_wrap=True)

    def promise(self, text: str, *, held: bool) -> None:
        mark, style = ("kept", "green") if held else ("BROKEN", "bold red")
        self._console.print(f"   {mark}: {text}", style=style, soft_wrap=True)

    def rows(self, name: str, answer: Answer) -> None:
        from rich.padding import Padding

        self._console.print(f"\n   {name}", style="bold cyan", soft_wrap=True)
        made = screen.table(answer.columns, answer.rows, ruled=self._console.is_terminal)
        self._console.print(Padding(made, (0, 0, 0, 3), expand=False))

    def commands(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._console.print(f"   {line}", style="cyan", soft_wrap=True)

"""Writing for people: tables, and text of foreign origin made harmless for a terminal."""

import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codexdb.domain.json import encode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 110  # characters of a line where no terminal says how wide it is

# Everything below the blank but tab and newline, DEL, and the C1 controls: a terminal would obey them. Embeddings,
# overrides and isolates of Unicode, too: they show a command's letters in another order than it runs them.
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {code: None for code in (*range(32), *range(127, 160), *_TURNS) if chr(code) not in "\t\n"}


def harmless(text: str) -> str:
    """The text without what a terminal would take for a command."""
    return text.translate(_CONTROLS)


def is_terminal() -> bool:
    """Whether stdout is one."""
    return sys.stdout.isatty()


def program() -> str:
    """How the user can start codexdb again from here."""
    started = Path(sys.argv[0])
    if started.name != "codexdb":
        return shlex.join([sys.executable, "-m", "codexdb"])
    found = shutil.which("codexdb")
    return "codexdb" if found is not None and Path(found) == started.absolute() else shlex.quote(sys.argv[0])


def write(text: str, *, err: bool = False) -> None:
    """Write to stdout or stderr at once, without colours where it is no terminal. That nobody reads it is no error."""
    try:
        click.echo(text, nl=False, err=err)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # for what Python still has of it, and writes at the end
        os.dup2(nowhere, (sys.stderr if err else sys.stdout).fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):  # a full disk, then
            raise click.ClickException(f"the output cannot be written: {error.strerror}") from error


def write_any_letter() -> None:
    """From now on, a letter that the encoding of stdout or stderr does not have is shown by its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not so where a test calls the command
            stream.reconfigure(errors="backslashreplace")


def agree(question: str, instead: str) -> None:
    """Ask a person, or whoever writes to stdin, and go on if the answer is yes. `instead`: the option that says so.

    Raises:
        click.ClickException: the answer is no, or none comes.
    """
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as error:
        raise click.ClickException(f"Aborted. Where nobody can be asked, {instead} says yes.") from error


def page(text: str) -> None:
    """Write a long text: by the user's pager, as git does, where it is longer than the terminal is high."""
    if not is_terminal() or not sys.stdin.isatty() or text.count("\n") < shutil.get_terminal_size().lines:
        write(text)
        return
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(text, color=True)


def width() -> int | None:
    """Of the terminal; None where stdout is none."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def cell(value: object) -> str:
    """A value of a row as one piece of text; NULL is empty."""
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)


def console(*, stderr: bool = False) -> "Console":
    """A console that colours on a terminal and writes plain lines anywhere else."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return (
        made
        if made.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH, color_system=None)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, ruled: bool) -> "Table":
    """Rows under their names; `ruled` draws lines, which only a terminal needs."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    gap = (0, 1 if ruled else 2, 0, 0)  # ruled columns have a blank of their own between them
    made = Table(
        box=box.SIMPLE_HEAD if ruled else None, show_edge=False, pad_edge=False, header_style="bold", padding=gap
    )
    for column in columns:
        made.add_column(Text(harmless(column)), overflow="fold")
    for row in rows:
        made.add_row(*(Text(harmless(cell(value))) for value in row))
    return made


def tab_separated(values: Iterable[object]) -> str:
    """One row as one line: what would break it is escaped."""
    return "\t".join(
        cell(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        for value in values
    )


def json_row(columns: Sequence[str], row: Sequence[object]) -> str:
    """One row as one line of JSON; of columns that share a name, the second is called `name_2` and so on."""
    named: dict[str, object] = {}
    for column, value in zip(columns, row, strict=True):
        name, number = column, 1
        while name in named:
            number += 1
            name = f"{column}_{number}"
        named[name] = value.hex() if isinstance(value, bytes) else value
    return encode(named)


@contextmanager
def progress(title: str) -> Generator[Callable[[str, int, int], None]]:
    """What long work is told: (what is being done, how much of it, of how many; 0: nobody knows). A bar on stderr;
    where that is no terminal nothing, for whoever reads a log wants the outcome.
    """
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(what: str, done: int, total: int) -> None:
            nonlocal task
            if not total:  # rich takes no total back from a task that had one
                bar.remove_task(task)
                task = bar.add_task(what, total=None)
            bar.update(task, description=what, completed=done, total=total or None)

        yield show

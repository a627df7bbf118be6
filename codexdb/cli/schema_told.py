"""`codexdb db schema`: the tables and views, with what they mean."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from codexdb.cli import screen
from codexdb.domain.json import encode
from codexdb.store import describe, tables, views


@dataclass(frozen=True, slots=True)
class Told:
    """A table or a view. Columns: name, type and meaning; those of views have the types of what they show."""

    name: str
    kind: str
    about: str
    columns: list[tuple[str, str, str]]
    example: str


def run(name: str | None, *, as_json: bool) -> int:
    """Print one of them, or all; returns the exit code."""
    known = {each.name: each for each in every()}
    if name is not None and name not in known:
        raise click.ClickException(f"There is no table or view {name}. There are: {', '.join(known)}.")
    chosen = list(known.values()) if name is None else [known[name]]
    if as_json:
        screen.write("".join(f"{encode(_object(each))}\n" for each in chosen))
    elif name is None:
        width = max(map(len, known))
        screen.write("".join(f"{each.kind:<6} {each.name:<{width}}  {each.about}\n" for each in chosen))
        screen.write(f"\nColumns: `{screen.program()} db schema NAME`. Queries: `{screen.program()} db sql QUERY`.\n")
    else:
        _print(chosen[0])
    return 0


def every() -> Iterator[Told]:
    """The views, then the tables."""
    for view in views.VIEWS:
        columns = [(name, "", meaning) for name, _, meaning in view.columns]
        yield Told(view.name, "view", view.about, columns, view.example)
    for name, about in describe.TABLES.items():
        table = tables.metadata.tables[name]
        columns = [(each.name, str(each.type), describe.COLUMNS[name][each.name]) for each in table.columns]
        order = " DESC, ".join(column.name for column in table.primary_key)
        yield Told(name, "table", about, columns, f"SELECT * FROM {name} ORDER BY {order} DESC LIMIT 10;")  # noqa: S608 - names of ours


def _object(told: Told) -> dict[str, object]:
    columns = [dict(zip(("name", "type", "meaning"), column, strict=True)) for column in told.columns]
    return {**asdict(told), "columns": columns}


def _print(told: Told) -> None:
    console = screen.console()
    screen.write(f"{told.kind} {told.name}: {told.about}\n\n")
    if console.is_terminal:
        console.print(screen.table(("column", "type", "holds"), told.columns, ruled=True))
    else:
        screen.write("".join(f"{screen.tab_separated(column)}\n" for column in told.columns))
    screen.write(f"\n{told.example}\n")

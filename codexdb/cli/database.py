"""`codexdb db`: looking into the database."""

from pathlib import Path

import click

from codexdb.cli import screen
from codexdb.domain.errors import CodexDBError
from codexdb.domain.limits import QUERY_ROWS_MAX
from codexdb.store.queries import Answer, ask


def sql(path: Path, query: str, *, as_json: bool) -> int:
    """Run one reading query and print its rows; returns the exit code."""
    try:
        answer = ask(path, query.encode(errors="surrogateescape").decode(errors="replace"), QUERY_ROWS_MAX)
    except CodexDBError as error:
        click.echo(f"codexdb: {error.message}", err=True)
        if error.kind == "store_refused":
            click.echo("Name the database with --db FILE, or with the environment variable CODEXDB_DB.", err=True)
        return 1
    _print(answer, as_json=as_json)
    if answer.more:
        click.echo(f"Only the first {QUERY_ROWS_MAX:,} rows are shown; there are more. Narrow the query.", err=True)
    return 0


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        for row in answer.rows:
            screen.write(f"{screen.json_row(answer.columns, row)}\n")
        return
    console = screen.console()
    if console.is_terminal:
        console.print(screen.table(answer.columns, answer.rows, ruled=True))
        return
    for row in (answer.columns, *answer.rows):
        screen.write(f"{screen.tab_separated(row)}\n")

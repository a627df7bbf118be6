"""`codexdb db`: the commands; `database` does the work."""

import sys

import click

from codexdb.cli.page import DATABASE, INTERRUPTED, Option, Page


@click.group()
def db() -> None:
    """Look into the database."""


@db.command(
    cls=Page,
    examples=(
        'codexdb db sql "SELECT public_id, cwd, turn_count FROM sessions ORDER BY updated_at_ms DESC LIMIT 5"',
        "codexdb db sql --json \"SELECT * FROM turns WHERE state = 'failed'\" | jq -r .error_message",
        'codexdb db sql "PRAGMA table_list"',
    ),
)
@click.argument("query")
@click.option(
    "--json", "as_json", cls=Option, section="Rows", is_flag=True, help="One JSON object per row, one row per line."
)
@DATABASE
def sql(query: str, db: str | None, as_json: bool) -> None:  # noqa: FBT001 - click calls by name
    """Run one reading QUERY and print its rows.

    They come as a table on a terminal, else as lines with tabs between the values, the first one with the names.
    Nothing can be written, and servers at work are not held up. Tables and columns are described in docs/schema.md.
    """
    from codexdb.cli import database
    from codexdb.config.database import database_path

    try:
        sys.exit(database.sql(database_path(db), query, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

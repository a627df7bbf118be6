"""`codexdb db`: the commands; `database` does the work."""

import sys
from pathlib import Path

import click

from codexdb.cli.page import DATABASE, JSON, Option, Page
from codexdb.cli.quantity import SIZE, SPAN


@click.group()
def db() -> None:
    """Look into the database, and look after it."""


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

    sys.exit(database.sql(database_path(db), query, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db current", "codexdb db current --json | jq -r .schema"),
)
@JSON
@DATABASE
def current(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Say which schema the database has, and which is wanted.

    Changes nothing. Exit code 1 if they differ, or if the file cannot be used.
    """
    from codexdb.cli.schema import current

    sys.exit(current(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db upgrade", "codexdb db upgrade --db team.sqlite3"),
)
@JSON
@DATABASE
def upgrade(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Bring the database to the schema of this codexdb.

    Servers do the same at their start. A backup is written beside the file first; then all of the upgrade happens, or
    nothing of it. Nobody may have the file open meanwhile: servers that start wait until it is done.
    """
    from codexdb.cli.schema import upgrade

    sys.exit(upgrade(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db downgrade",),
)
@JSON
@DATABASE
def downgrade(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Take the newest revision of the schema back.

    For an older codexdb: the next server of this version upgrades the file again. A backup is written beside the file
    first. What only the newest revision knows is given up; sessions are not.
    """
    from codexdb.cli.schema import downgrade

    sys.exit(downgrade(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=(
        "codexdb db check",
        "codexdb db check --quick",
        "codexdb db check --json | jq 'select(.ok | not)'",
    ),
)
@click.option(
    "--quick",
    cls=Option,
    section="Check",
    is_flag=True,
    help="Leave out what takes longest: indexes against their tables, and the text index against the items.",
)
@JSON
@DATABASE
def check(db: str | None, quick: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Say whether the database is sound, and what to do if not.

    Looks at the file, the references, the text index, and the invariants that docs/invariants.md lists as queries.
    Changes nothing; servers may be at work. Exit code 1 if something is wrong.
    """
    from codexdb.cli.checking import run
    from codexdb.config.database import database_path

    sys.exit(run(database_path(db), quick=quick, as_json=as_json))


@db.command(
    cls=Page,
    examples=(
        "codexdb db backup before-the-move.sqlite3",
        "codexdb db backup /backups/codexdb-$(date +%F).sqlite3",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@JSON
@DATABASE
def backup(db: str | None, file: Path, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Copy the database to FILE, whoever works on it meanwhile.

    FILE must not exist; it appears once it is complete, holds the database as of one instant, and can be read by its
    owner alone.
    """
    from codexdb.cli.upkeep import backup

    sys.exit(backup(db, file, as_json=as_json))


_YES = click.option("--yes", cls=Option, section="Answers", is_flag=True, help="Do not ask.")


@db.command(
    cls=Page,
    examples=(
        "codexdb db restore before-the-move.sqlite3",
        "codexdb db restore --yes /backups/codexdb-2026-11-25.sqlite3",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@_YES
@JSON
@DATABASE
def restore(db: str | None, file: Path, yes: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Make the database what the backup FILE is.

    FILE is checked first, and what the database held is kept beside it. Nobody may have the database open. Killed at
    any instant, it is all of the old one or all of the new one. Turns that were open when the backup was made are ended
    as interrupted: they may have gone on since, and no command is to run twice. A backup of an older schema stays what
    it is; the next server upgrades it.
    """
    from codexdb.cli.upkeep import restore

    sys.exit(restore(db, file, yes=yes, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db vacuum",),
)
@JSON
@DATABASE
def vacuum(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Return the space of what was deleted to the file system.

    Nobody may have the database open meanwhile. Needs up to three times its size as free space.
    """
    from codexdb.cli.upkeep import vacuum

    sys.exit(vacuum(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=(
        "codexdb db prune --older-than 30d --dry-run",
        "codexdb db prune --older-than 30d",
        "codexdb db prune --all --max-size 2GB --yes",
    ),
)
@click.option(
    "--older-than",
    cls=Option,
    section="What goes",
    type=SPAN,
    metavar="SPAN",
    help="Sessions in which no turn has begun or ended for so long: 90m, 12h, 30d, 8w.",
)
@click.option(
    "--keep",
    cls=Option,
    section="What goes",
    type=click.IntRange(min=0),
    metavar="N",
    help="All but the newest N of those that may go.",
)
@click.option(
    "--max-size",
    cls=Option,
    section="What goes",
    type=SIZE,
    metavar="SIZE",
    help="The oldest, until the database has about this size: 500MB, 2GB.",
)
@click.option(
    "--all", "also_open", cls=Option, section="What goes", is_flag=True, help="Also sessions that are not archived."
)
@click.option(
    "--dry-run", cls=Option, section="Answers", is_flag=True, help="Say what would go, and leave everything as it is."
)
@_YES
@JSON
@DATABASE
def prune(
    db: str | None,
    older_than: int | None,
    keep: int | None,
    max_size: int | None,
    **flags: bool,
) -> None:
    """Delete old archived sessions, and return their space.

    Says first what would go, and asks. A session with a turn that is not ended, or a question that is not answered,
    always stays. Of several conditions all must hold. Servers may be at work; where one is, `codexdb db vacuum` returns
    the space later. Killed in between, each session is there whole or gone, and a repeat goes on.
    """
    if older_than is None and keep is None and max_size is None:
        raise click.UsageError("say what is to go: --older-than, --keep or --max-size")
    if flags["as_json"] and not (flags["yes"] or flags["dry_run"]):
        raise click.UsageError("with --json nobody is asked: add --yes or --dry-run")
    from codexdb.cli.pruning import run
    from codexdb.domain.clock import SystemClock
    from codexdb.store.retention import Retention

    before_ms = None if older_than is None else SystemClock().now_ms() - older_than
    retention = Retention(flags["also_open"], before_ms, keep, max_size)
    sys.exit(run(db, retention, dry_run=flags["dry_run"], yes=flags["yes"], as_json=flags["as_json"]))


@db.command(
    cls=Page,
    examples=(
        "codexdb db schema",
        "codexdb db schema session_overview",
        "codexdb db schema --json | jq -r .name",
    ),
)
@click.argument("name", required=False)
@JSON
def schema(name: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the tables and views, or the columns of NAME.

    With what each means, and a query to begin with. docs/schema.md says more.
    """
    from codexdb.cli.schema_told import run

    sys.exit(run(name, as_json=as_json))

"""`codexdb sessions`: the commands. `browsing`, `following` and `acting` do the work."""

import sys
from pathlib import Path

import click

from codexdb.cli.page import DATABASE, JSON, Option, Page
from codexdb.domain.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX


def _cursor(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        updated_at_ms, key = value.split(".")
        return int(updated_at_ms), int(key)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not where a list has ended") from error


SESSION = click.argument("session")


@click.group()
def sessions() -> None:
    """Look at sessions, follow them, and send to them.

    SESSION is a session's id, or as much of its beginning as no other has.
    """


@sessions.command(
    "list",
    cls=Page,
    examples=(
        "codexdb sessions list",
        "codexdb sessions list --cwd .                     those of this directory",
        "codexdb sessions list --json | jq -r .session_id",
    ),
)
@click.option("--all", "archived", cls=Option, section="Sessions", is_flag=True, help="Also those that are archived.")
@click.option(
    "--cwd",
    cls=Option,
    section="Sessions",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Only those that work in this directory.",
)
@click.option(
    "--limit",
    cls=Option,
    section="Sessions",
    type=click.IntRange(1, PAGE_ROWS_MAX),
    default=PAGE_ROWS_DEFAULT,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
@click.option(
    "--after",
    cls=Option,
    section="Sessions",
    metavar="CURSOR",
    callback=_cursor,
    help="Go on where a list has ended: `cursor` of its last line.",
)
@JSON
@DATABASE
def list_all(
    archived: bool,  # noqa: FBT001 - a flag
    cwd: Path | None,
    limit: int,
    after: tuple[int, int] | None,
    as_json: bool,  # noqa: FBT001 - a flag
    db: str | None,
) -> None:
    """Show the sessions, last used first.

    As a table on a terminal, else as lines with tabs between the values, the first one with the names.
    """
    from codexdb.cli.browsing import show_list

    sys.exit(show_list(db, archived=archived, cwd=cwd, after=after, limit=limit, in_json=as_json))


@sessions.command(
    cls=Page,
    examples=(
        "codexdb sessions show 01a21024-4cff",
        "codexdb sessions show 01a21024-4cff --turn 2",
        "codexdb sessions show 01a21024-4cff --json | jq -r 'select(.type == \"command\") | .exit_code'",
    ),
)
@SESSION
@click.option(
    "--turn", cls=Option, section="Transcript", type=click.IntRange(min=1), metavar="N", help="Only its Nth turn."
)
@JSON
@DATABASE
def show(session: str, turn: int | None, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - a flag
    """Show what happened in SESSION.

    What was said, which commands ran and how they ended, what was changed, asked and planned, turn by turn, with times
    and tokens. Of long outputs and diffs only both ends. On a terminal, $PAGER takes what is longer than the screen.
    """
    from codexdb.cli.browsing import show as show_one

    sys.exit(show_one(db, session, turn=turn, in_json=as_json))


@sessions.command(
    cls=Page,
    examples=(
        "codexdb sessions export 01a21024-4cff --format html -o session.html",
        "codexdb sessions export 01a21024-4cff --format markdown | less",
    ),
)
@SESSION
@click.option(
    "--format",
    "form",
    cls=Option,
    section="Export",
    type=click.Choice(["markdown", "html"]),
    required=True,
    help="markdown: for issues and notes. html: one page that stands alone.",
)
@click.option(
    "-o",
    "--output",
    cls=Option,
    section="Export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it. Default: stdout.",
)
@DATABASE
def export(session: str, form: str, output: Path | None, db: str | None) -> None:
    """Write SESSION to a file that others can read.

    The page has the transcript, diffs, and a chart of tokens and time. It loads nothing, runs no script, and escapes
    whatever the session holds. Of outputs longer than 16,384 characters, both halves of that are in it.
    """
    from codexdb.cli.browsing import export as export_one

    sys.exit(export_one(db, session, form, output))

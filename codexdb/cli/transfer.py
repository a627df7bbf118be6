"""`codexdb sessions export` and `import`: the commands; `moving` does the work."""

import sys
from pathlib import Path

import click

from codexdb.cli.page import DATABASE, JSON, Option, Page


@click.command(
    cls=Page,
    examples=(
        "codexdb sessions export 01a21024-4cff > session.jsonl",
        "codexdb sessions export --all -o sessions.jsonl",
        "codexdb sessions export 01a21024-4cff --format html -o session.html",
        "codexdb sessions export 01a21024-4cff --format markdown | less",
    ),
)
@click.argument("sessions", nargs=-1)
@click.option("--all", "every", cls=Option, section="Sessions", is_flag=True, help="All sessions of the database.")
@click.option(
    "--format",
    "form",
    cls=Option,
    section="Output",
    type=click.Choice(["jsonl", "markdown", "html"]),
    default="jsonl",
    show_default=True,
    help="jsonl: what `codexdb sessions import` reads. Of one session: markdown, for issues and notes; html, a page "
    "that stands alone.",
)
@click.option(
    "-o",
    "--output",
    cls=Option,
    section="Output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, which appears when it is whole. Default: stdout.",
)
@DATABASE
def export(sessions: tuple[str, ...], every: bool, form: str, output: Path | None, db: str | None) -> None:  # noqa: FBT001 - click calls by name
    """Write SESSIONS to a file, by their ids.

    As jsonl, everything that belongs to them, as of one instant; servers at work are not held up. The file can be
    imported into any database, and holds what the sessions hold: what was said, and what commands printed.

    As html or markdown, one session for readers. The page has the transcript, diffs, and a chart of tokens and time,
    loads nothing, runs no script, and escapes whatever the session holds. Of outputs longer than 16,384 characters, it
    has both ends.
    """
    if bool(sessions) == every:
        raise click.UsageError("name sessions by their ids, or say --all")
    if form != "jsonl" and len(sessions) != 1:
        raise click.UsageError(f"{form} is of one session: name it")
    if form != "jsonl":
        from codexdb.cli.browsing import export as export_one

        sys.exit(export_one(db, sessions[0], form, output))
    from codexdb.cli.moving import exporting

    sys.exit(exporting.export(db, None if every else sessions, output))


@click.command(
    "import",
    cls=Page,
    examples=(
        "codexdb sessions import sessions.jsonl",
        "codexdb sessions import --codex                 everything that Codex has kept",
        "codexdb sessions import ~/old/.codex/sessions   rollouts in this folder and below",
        "codexdb sessions import --json --codex | jq 'select(.faults != [])'",
    ),
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--codex", cls=Option, section="Files", is_flag=True, help="Also the rollouts in $CODEX_HOME/sessions.")
@JSON
@DATABASE
def take_in(paths: tuple[Path, ...], codex: bool, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - flags
    """Take sessions in from exports and from Codex.

    PATHS are files that `codexdb sessions export` wrote, rollouts of Codex, or folders with rollouts in them.

    What is here already is left as it is, so that a repeat changes nothing. A session is there whole or not at all; one
    that was open where it comes from ends as interrupted. codexdb goes on with each by `codex-reply`.

    Every fault is told with its file and line, and everything else is imported. Exit code: 0; 1 there was a fault.
    """
    from codexdb.cli.moving import importing

    if not paths and not codex:
        raise click.UsageError("name files or folders, or say --codex")
    sys.exit(importing.run(db, paths, codex=codex, as_json=as_json))

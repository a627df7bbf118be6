"""`codexdb sessions`: the commands. `browsing`, `following` and `acting` do the work."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from codexdb.cli.page import DATABASE, JSON, Option, Page
from codexdb.cli.transfer import export, take_in
from codexdb.domain.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, SEQ_MAX
from codexdb.domain.outcome import IfRunning


def _cursor(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        updated_at_ms, key = map(int, value.split("."))
    except ValueError:
        updated_at_ms = key = SEQ_MAX + 1
    if max(updated_at_ms, key) > SEQ_MAX:
        raise click.BadParameter(f"{value!r} is not where a list has ended")
    return updated_at_ms, key


def ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from codexdb.cli.finding import completions

    return [
        CompletionItem(session_id, help=title)
        for session_id, title in completions(context.params.get("db"), incomplete)
    ]


def _limit(section: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """How much of a page is shown."""
    return click.option(
        "--limit",
        cls=Option,
        section=section,
        type=click.IntRange(1, PAGE_ROWS_MAX),
        default=PAGE_ROWS_DEFAULT,
        show_default=True,
        metavar="N",
        help="At most so many.",
    )


SESSION = click.argument("session", shell_complete=ids)


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
@_limit("Sessions")
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
        "codexdb sessions search parser grammar",
        "codexdb sessions search '\"no such file\"' cargo*",
        "codexdb sessions search --best --json migration | jq -r .session_id",
    ),
)
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--best", cls=Option, section="Search", is_flag=True, help="The hits that fit best among the newest 1,000."
)
@_limit("Search")
@click.option(
    "--before",
    cls=Option,
    section="Search",
    type=click.IntRange(1, SEQ_MAX),
    metavar="CURSOR",
    help="Go on where a search has ended: `cursor` of its last line.",
)
@JSON
@DATABASE
def search(
    words: tuple[str, ...],
    best: bool,  # noqa: FBT001 - a flag
    limit: int,
    before: int | None,
    as_json: bool,  # noqa: FBT001 - a flag
    db: str | None,
) -> None:
    """Find messages and commands by their WORDS.

    What holds all of them, newest first. "Several words" in quotes are found in that order, and begin* finds whatever
    begins so, two letters at least. What commands printed is not searched. Of a message only its first 65,536
    characters are.
    """
    if best and before is not None:
        raise click.UsageError("the best hits are chosen among the newest: leave out --before")
    from codexdb.cli.seeking import search as seek

    sys.exit(seek(db, " ".join(words), best=best, before=before, limit=limit, as_json=as_json))


@sessions.command(
    cls=Page,
    examples=(
        "codexdb sessions tail 01a21024-4cff",
        "codexdb sessions tail 01a21024-4cff --until-idle --json | jq -r .msg.type",
    ),
)
@SESSION
@click.option("--until-idle", cls=Option, section="Follow", is_flag=True, help="End when no turn is open any more.")
@JSON
@DATABASE
def tail(session: str, until_idle: bool, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - flags
    """Follow SESSION live, whichever process works on it.

    Begins with its last turn. Messages and outputs are shown when they are complete. With --json each event is a line,
    as with `codexdb exec --json`. Ctrl-C ends the following, and not the turn.
    """
    from codexdb.cli.following import tail as follow

    sys.exit(follow(db, session, until_idle=until_idle, as_json=as_json))


@sessions.command(
    cls=Page,
    examples=(
        'codexdb sessions send 01a21024-4cff "And now the tests"',
        "git diff | codexdb sessions send 01a21024-4cff --if-running queue -",
    ),
)
@SESSION
@click.argument("text")
@click.option(
    "--if-running",
    cls=Option,
    section="Message",
    type=click.Choice([each.value for each in IfRunning]),
    default=IfRunning.REJECT.value,
    show_default=True,
    help="What becomes of it while a turn is open: refused, queued behind it, or steered into it.",
)
@click.option(
    "--message-id",
    cls=Option,
    section="Message",
    metavar="ID",
    help="Your own name for the message: a repeat with the same one is accepted once.",
)
@JSON
@DATABASE
def send(
    session: str,
    text: str,
    if_running: str,
    message_id: str | None,
    as_json: bool,  # noqa: FBT001 - a flag
    db: str | None,
) -> None:
    """Send TEXT to SESSION, for whoever works on the database.

    TEXT `-` reads it from stdin. The command ends once the message is accepted; `codexdb sessions tail` shows what
    comes of it. If nobody works on the database, it says so. Exit code 1 if the message is refused.
    """
    from codexdb.cli.acting import send as send_one

    sys.exit(send_one(db, session, text, if_running=IfRunning(if_running), message_id=message_id, as_json=as_json))


@sessions.command(cls=Page, examples=("codexdb sessions interrupt 01a21024-4cff",))
@SESSION
@JSON
@DATABASE
def interrupt(session: str, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - a flag
    """End the turn that holds SESSION.

    Whoever works on it is asked to end it; where nobody does, it is ended at once. What was done so far is kept, and a
    queued message begins. That no turn is open is no error.
    """
    from codexdb.cli.acting import interrupt as interrupt_one

    sys.exit(interrupt_one(db, session, as_json=as_json))


@sessions.command(
    cls=Page,
    examples=(
        "codexdb sessions fork 01a21024-4cff",
        'codexdb sessions fork 01a21024-4cff --after-turn 2 --title "The other way"',
    ),
)
@SESSION
@click.option(
    "--after-turn",
    cls=Option,
    section="Fork",
    type=click.IntRange(1, SEQ_MAX),
    metavar="N",
    help="The last turn that is shared. Default: the last one that has ended.",
)
@click.option("--title", cls=Option, section="Fork", metavar="TEXT", help="A name for it.")
@JSON
@DATABASE
def fork(session: str, after_turn: int | None, title: str | None, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - a flag
    """Make a session that begins with the past of SESSION.

    Prints the new session's id. SESSION is not touched.
    """
    from codexdb.cli.acting import fork as fork_one

    sys.exit(fork_one(db, session, after_turn=after_turn, title=title, as_json=as_json))


@sessions.command(
    cls=Page,
    examples=("codexdb sessions archive 01a21024-4cff", "codexdb sessions archive 01a21024-4cff --undo"),
)
@SESSION
@click.option("--undo", cls=Option, section="Archive", is_flag=True, help="Take it up again.")
@JSON
@DATABASE
def archive(session: str, undo: bool, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - flags
    """Put SESSION away.

    It takes no messages and is not listed, until that is undone. Refused while a turn is open.
    """
    from codexdb.cli.acting import archive as archive_one

    sys.exit(archive_one(db, session, undo=undo, as_json=as_json))


@sessions.command(
    cls=Page,
    examples=("codexdb sessions delete 01a21024-4cff", "codexdb sessions delete 01a21024-4cff --yes --json"),
)
@SESSION
@click.option("--yes", "sure", cls=Option, section="Delete", is_flag=True, help="Do not ask.")
@JSON
@DATABASE
def delete(session: str, sure: bool, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - flags
    """Delete SESSION for good, with everything in it.

    Asks before. Refused while a turn is open. Sessions that were forked from it stay whole. Its messages are forgotten:
    a repeat of a `message_id` that it had is a new message.
    """
    from codexdb.cli.acting import delete as delete_one

    sys.exit(delete_one(db, session, sure=sure, as_json=as_json))


sessions.add_command(export)
sessions.add_command(take_in)

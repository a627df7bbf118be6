"""The command line, for people: every command with the page that `--help` shows. Commands import what they need."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

import codexdb as package
from codexdb.cli.approvals import approvals
from codexdb.cli.db import db
from codexdb.cli.page import DATABASE, JSON, Option, Page, Program
from codexdb.cli.sandbox import sandbox
from codexdb.cli.serve_options import ServeOptions
from codexdb.cli.sessions import ids, sessions
from codexdb.domain.limits import RESUME_AGE_MS_MAX

_Command = TypeVar("_Command", bound=Callable[..., None])


def _assignments(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
    return values


_NEW_SESSIONS = "Settings of new sessions (stronger than config.toml)"
_SETTINGS = (
    click.option("-m", "--model", cls=Option, section=_NEW_SESSIONS, metavar="MODEL", help="The model to use."),
    click.option(
        "-p", "--profile", cls=Option, section=_NEW_SESSIONS, metavar="NAME", help="A profile of config.toml."
    ),
    click.option(
        "-s",
        "--sandbox",
        cls=Option,
        section=_NEW_SESSIONS,
        metavar="MODE",
        help="read-only, workspace-write or danger-full-access: what commands may touch.",
    ),
    click.option(
        "-a",
        "--ask-for-approval",
        cls=Option,
        section=_NEW_SESSIONS,
        metavar="POLICY",
        help="untrusted, on-failure, on-request or never: when a person is asked.",
    ),
    click.option(
        "-c",
        "--config",
        cls=Option,
        section=_NEW_SESSIONS,
        metavar="KEY=VALUE",
        multiple=True,
        callback=_assignments,
        help="Any key of config.toml, dotted where it is nested; a TOML value, else a text. Repeatable.",
    ),
)


def _settings(command: _Command) -> _Command:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


_ON_RESTART = click.option(
    "--on-restart",
    cls=Option,
    section="Turns",
    type=click.Choice(["resume", "interrupt"]),
    default="resume",
    show_default=True,
    help="What becomes of a turn whose server died.",
)
_RESUME_MAX_AGE = click.option(
    "--resume-max-age",
    cls=Option,
    section="Turns",
    type=click.IntRange(min=0),
    default=RESUME_AGE_MS_MAX // 1000,
    show_default=True,
    metavar="SECONDS",
    help="A turn of which nothing was heard for longer is interrupted, so that nothing goes on unattended.",
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="codexdb")
def codexdb() -> None:
    """Coding-agent sessions over MCP, kept in a database.

    Point an MCP client at `codexdb serve`. To see what it is for, run `codexdb demo`: it needs no key and no network.
    """
    from codexdb.cli import screen

    screen.write_any_letter()


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb serve                              what an MCP client starts",
        "codexdb serve --db team.sqlite3 -m gpt-5   another database, another model",
    ),
)
@_settings
@DATABASE
@click.option(
    "--on-cancel",
    cls=Option,
    section="Client",
    type=click.Choice(["auto", "interrupt", "detach"]),
    default="auto",
    show_default=True,
    help="What a client's cancellation does to the turn: `auto` lets it go on if the client merely timed out.",
)
@click.option(
    "--on-eof",
    cls=Option,
    section="Client",
    type=click.Choice(["stop", "finish"]),
    default="stop",
    show_default=True,
    help="When the client closes its end: suspend the turns for the next server, or first finish them.",
)
@click.option(
    "--no-worker",
    cls=Option,
    section="Turns",
    is_flag=True,
    help="Accept messages, and leave their turns to another server or to `codexdb worker`.",
)
@_ON_RESTART
@_RESUME_MAX_AGE
def serve(**_options: object) -> None:
    """Serve one MCP client on stdin and stdout.

    Any number of servers may share one database. `codexdb mcp-server` is the same command, and the options -m -p -s
    -a -c may also stand before it, as with Codex.
    """
    from codexdb.cli.serve_options import parse

    if parse(sys.argv[1:]) is None:  # it never gets here otherwise: codexdb.__main__ serves before click is loaded
        raise click.UsageError("an option of `serve` has no value, or stands in a place that it cannot be read from")


codexdb.add_command(serve, "mcp-server")


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb worker                works until it is stopped",
        "codexdb worker --until-idle   ends when nothing is left to do",
    ),
)
@DATABASE
@click.option("--until-idle", cls=Option, section="Turns", is_flag=True, help="End when no turn is left.")
@_ON_RESTART
@_RESUME_MAX_AGE
def worker(db: str | None, until_idle: bool, on_restart: str, resume_max_age: int) -> None:  # noqa: FBT001 - a flag
    """Work on turns with no client attached.

    Takes what servers left unfinished and what `codexdb serve --no-worker` accepted, one process among any number.

    Exit code: 0; 1 the database cannot be used, or, with --until-idle, turns are left that it cannot work on here.
    """
    import anyio

    from codexdb import app
    from codexdb.config.database import database_path

    options = app.Options(
        database=database_path(db), resume=on_restart == "resume", resume_age_ms_max=resume_max_age * 1000
    )
    sys.exit(anyio.run(lambda: app.work(options, until_idle=until_idle)))


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb torture                a minute of it, in a scratch folder",
        "codexdb torture --kills 300    what this project asks of itself",
    ),
)
@click.option(
    "--kills",
    cls=Option,
    section="Torture",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many servers to kill.",
)
@click.option(
    "--seed",
    cls=Option,
    section="Torture",
    type=int,
    default=1,
    show_default=True,
    metavar="S",
    help="Chooses the instants; the same seed gives the same plan, not the same scheduling.",
)
@click.option(
    "--dir",
    "folder",
    cls=Option,
    section="Torture",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to make the scratch folder, which stays where a promise broke. Default: the system's own place.",
)
@click.option("--json", "as_json", cls=Option, section="Output", is_flag=True, help="A summary for programs.")
def torture(kills: int, seed: int, folder: Path | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Kill real servers under load, and count what is lost.

    Several clients send, queue and steer messages to two servers on one database while these are killed at random
    instants and started again; some commands need a yes, and some get a no. Then the file and the side effects are
    checked: nothing acknowledged lost, no command run twice or without the yes that it needs, no question lost or asked
    twice on one connection, every turn ended once. The model is scripted; no key and no network are needed.
    """
    from codexdb.cli.torture import run

    sys.exit(run(kills, seed, folder or Path(tempfile.gettempdir()), as_json))


@codexdb.command(
    "exec",
    cls=Page,
    examples=(
        'codexdb exec "What does this project do?"',
        'codexdb exec -s danger-full-access -a never "Run the tests and tell me why they fail"',
        'codexdb exec --session 0199a213-81c0-7800-8aa1-bbab2a035a53 "Now mend them"',
        "git diff | codexdb exec - > review.txt",
        'codexdb exec --json "…" | jq -r .msg.type',
    ),
)
@click.argument("prompt")
@click.option(
    "--session",
    cls=Option,
    section="Turn",
    metavar="ID",
    help="Go on with this session, under the settings it was started with.",
)
@click.option(
    "--json",
    "as_json",
    cls=Option,
    section="Turn",
    is_flag=True,
    help="Write each event as one line of JSON, as it is committed.",
)
@_settings
@DATABASE
def execute(
    prompt: str,
    session: str | None,
    as_json: bool,  # noqa: FBT001 - click calls by name
    config: tuple[str, ...],
    **values: str | None,
) -> None:
    """Run one turn on PROMPT, shown while it runs.

    PROMPT `-` reads it from stdin. The model is the configured one. The turn is kept in the database like every other.
    Where stdout is not a terminal, it gets the last answer alone, and everything else goes to stderr. Ctrl-C interrupts
    the turn; what was done so far is kept.

    Exit code: 0 completed, 1 failed or not accepted, 2 wrong usage, 130 interrupted.
    """
    options = _serve_options(config, values)
    if session is not None and (options.config or options.values.keys() - {"db"}):
        raise click.UsageError(
            "a session goes on with the settings it was started with: leave out -m, -p, -s, -a and -c"
        )
    from codexdb.cli import exec as execution

    sys.exit(execution.run(options, prompt, session, as_json=as_json))


def _serve_options(config: tuple[str, ...], values: dict[str, str | None]) -> ServeOptions:
    """What click has read, in the form that `serve` reads its own command line to."""
    names = {"sandbox": "sandbox_mode", "ask_for_approval": "approval_policy"}
    options = ServeOptions()
    options.config = list(config)
    options.values = {names.get(name, name): value for name, value in values.items() if value is not None}
    return options


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb demo",
        "codexdb demo --dir /tmp/first-look     keep it where you find it again",
        "codexdb demo --json                    for programs: what held, and where everything lies",
    ),
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    cls=Option,
    section="Demo",
    help="Where to work: a new or an empty folder. Default: a new one among the temporary files. It is kept.",
)
@click.option(
    "--json", "as_json", cls=Option, section="Demo", is_flag=True, help="Print one JSON object instead of a story."
)
def demo(folder: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click calls by name
    """Watch a session survive `kill -9`. Needs no key and no network; takes a few seconds.

    A real server, a real MCP client and a real shell command work in a scratch folder; only the model is scripted. Your
    own configuration and database are not touched. Every promise is checked: exit code 1 names the one that was not
    kept.
    """
    from codexdb.cli.demo import run

    sys.exit(run(folder, as_json=as_json))


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb doctor",
        "codexdb doctor --json | jq 'select(.verdict != \"ok\")'",
    ),
)
@click.option("--json", "as_json", cls=Option, section="Output", is_flag=True, help="One JSON object per finding.")
@DATABASE
def doctor(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Say what is in order, what is not, and what to do.

    Looks at SQLite, config.toml, the key of the model's provider, the database, its workers, and the turns that wait
    for one. Changes nothing. Exit code 1 if something is wrong.
    """
    from codexdb.cli import doctor as report
    from codexdb.config.database import database_path

    sys.exit(report.run(database_path(db), as_json=as_json))


@codexdb.command(
    cls=Page,
    examples=(
        "codexdb inspect --open",
        "codexdb inspect 01a21112 --open                     one session's transcript",
        "codexdb inspect --port 8001                         an address that stays, but for its key",
        "codexdb inspect --json | jq -r --unbuffered .address",
    ),
)
@click.argument("session", required=False, shell_complete=ids)
@click.option("--open", "browse", cls=Option, section="Pages", is_flag=True, help="Open them in the browser.")
@click.option(
    "--port",
    cls=Option,
    section="Pages",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PORT",
    help="The port on 127.0.0.1. Default: one that is free.",
)
@JSON
@DATABASE
def inspect(
    session: str | None,
    db: str | None,
    port: int,
    browse: bool,  # noqa: FBT001 - click calls by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Look at the database, or at one SESSION, in a browser.

    Serves pages of Datasette on this machine until Ctrl-C: the views, queries that people ask, the tables, and every
    session as its transcript. Nothing can be written; servers may be at work. Only who has the printed address, with
    its key, is let in. Needs the extra `inspect`: pip install 'codexdb[inspect]'.
    """
    from codexdb.cli import inspecting

    sys.exit(inspecting.run(db, session, port=port, browse=browse, as_json=as_json))


codexdb.add_command(approvals)
codexdb.add_command(sandbox)
codexdb.add_command(db)
codexdb.add_command(sessions)

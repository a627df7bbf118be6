"""`codexdb sandbox`: run a command as the agent would under a sandbox mode, to see what is refused."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codexdb.cli import screen
from codexdb.cli.page import Option, Page

if TYPE_CHECKING:
    from codexdb.agent.sandbox.confinement import Confinement
    from codexdb.config.resolve import Resolved
    from codexdb.config.schema import SandboxBackend

REFUSED = 1  # it did not run at all


@click.command(
    cls=Page,
    context_settings={"allow_interspersed_args": False},
    examples=(
        "codexdb sandbox -- touch file                        refused: the mode is read-only",
        "codexdb sandbox -s workspace-write -- touch file     allowed",
        "codexdb sandbox -s workspace-write --network -- curl -sI https://example.org",
        "codexdb sandbox --backend landlock -- bash -lc 'echo x > /tmp/x'",
    ),
)
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "-s",
    "--sandbox",
    "mode",
    cls=Option,
    section="Mode",
    type=click.Choice(["read-only", "workspace-write", "danger-full-access"]),
    help="What CMD may touch. Default: as in config.toml, else read-only.",
)
@click.option("--network", cls=Option, section="Mode", is_flag=True, help="Let it use the network.")
@click.option(
    "--backend",
    cls=Option,
    section="Mode",
    type=click.Choice(["auto", "bwrap", "landlock", "none"]),
    help="What holds it to the mode. Default: `sandbox_backend` of config.toml, else the best that works.",
)
def sandbox(cmd: tuple[str, ...], mode: str | None, network: bool, backend: str | None) -> None:  # noqa: FBT001
    """Run CMD under a sandbox mode, as the agent would.

    It gets no input, the environment that `[shell_environment_policy]` leaves it, and the writable roots of
    `[sandbox_workspace_write]`. Exit code: that of CMD, 128 and the signal's number where one ended it; 1 if it could
    not be started, or nothing here can hold it to the mode.
    """
    from codexdb.domain.errors import CodexDBError

    try:
        sys.exit(run(cmd, mode, network=network, backend=backend))
    except CodexDBError as error:
        raise click.ClickException(error.message) from error


def run(argv: tuple[str, ...], mode: str | None, *, network: bool, backend: str | None) -> int:
    """Run it to its end, with its output on ours; returns the exit code.

    Raises:
        CodexDBError: config.toml cannot be used.
    """
    import anyio

    from codexdb.agent.sandbox.mode import confinement_of
    from codexdb.config.files import codex_home
    from codexdb.config.resolve import Request, resolve
    from codexdb.config.schema import SandboxBackend

    resolved = resolve(Request(sandbox=mode), home=codex_home(os.environ), environ=os.environ, server_cwd=Path.cwd())
    environment = resolved.environment.environment(os.environ)
    confinement = confinement_of(resolved.settings, resolved.workspace, environment)
    if confinement is not None and network:
        confinement = replace(confinement, network=True)
    preferred = resolved.sandbox_backend if backend is None else SandboxBackend(backend)
    return anyio.run(_run, argv, resolved, environment, confinement, preferred)


async def _run(
    argv: tuple[str, ...],
    resolved: "Resolved",
    environment: dict[str, str],
    confinement: "Confinement | None",
    preferred: "SandboxBackend",
) -> int:
    from codexdb.agent.sandbox.choice import choose, survey
    from codexdb.agent.sandbox.confinement import Backend
    from codexdb.agent.tools.process import Ending, SpawnFailed, start
    from codexdb.domain.limits import SHELL_TIMEOUT_MS_MAX

    chosen = Backend.NONE if confinement is None else await choose(preferred)
    if confinement is not None and chosen is Backend.NONE:
        why = "".join(f"\n{each.what}: {each.why_not or 'works, and was not asked for'}" for each in survey())
        screen.write(
            f"codexdb sandbox: nothing asked for holds a command to its mode here, so it was not run{why}\n", err=True
        )
        return REFUSED
    ending = Ending(None, None, timed_out=False)
    cwd = resolved.settings.cwd
    try:
        async with start(argv, cwd=cwd, environment=environment, confinement=confinement, backend=chosen) as process:
            ending = await process.finish(_show, timeout_ms=SHELL_TIMEOUT_MS_MAX)
    except SpawnFailed as failure:
        screen.write(f"codexdb sandbox: {argv[0]}: {failure}\n", err=True)
        return REFUSED
    return 128 + (ending.signal or 0) if ending.exit_code is None else ending.exit_code


def _show(stream: str, chunk: bytes) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    with suppress(BrokenPipeError):  # nobody reads; the command goes on
        target.buffer.write(chunk)
        target.buffer.flush()

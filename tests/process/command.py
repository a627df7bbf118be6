"""`codexdb …` as a process of its own, in an environment that holds nothing of ours but PATH and the like."""

import os
import subprocess
import sys
from pathlib import Path

from codexdb.testing.server_process import ENVIRONMENT_KEPT

TIMEOUT_S = 20


def argv(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "codexdb", *map(str, arguments)]


def in_home(home: Path) -> dict[str, str]:
    """The environment of a command for this CODEX_HOME."""
    return _kept() | {"CODEX_HOME": str(home)}


def on_file(database: Path) -> dict[str, str]:
    """The environment of a command for this database."""
    return _kept() | {"CODEXDB_DB": str(database)}


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}


def run(
    command: list[str], env: dict[str, str], *, cwd: Path | None = None, given: str = "", timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """What the command made of it, with `given` on its stdin and no terminal."""
    return subprocess.run(
        command, cwd=cwd, env=env, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )

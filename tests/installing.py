"""Programs of others, installed for the tests into a folder that later runs find again."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

INSTALL_TIMEOUT_S = 240  # of one command; a slow registry needs a minute


class UnavailableError(Exception):
    """The program cannot be had on this machine; says why."""


def build_once(folder: Path, made_of: Mapping[str, object], build: Callable[[], None]) -> None:
    """Have `build` fill the folder, unless an earlier run has finished doing so from the same things."""
    done = folder / "made-of.json"
    text = json.dumps(made_of, sort_keys=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be at it
        if done.exists() and done.read_text(encoding="utf-8") == text:
            return
        shutil.rmtree(folder, ignore_errors=True)
        build()
        done.write_text(text, encoding="utf-8")


def run(command: list[str | Path], cwd: Path) -> str:
    """What the command prints.

    Raises:
        UnavailableError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{Path(command[0]).name} did not end within {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).splitlines()
        why = next((line for line in said if line.startswith(("ERROR", "npm error"))), f"exit code {done.returncode}")
        raise UnavailableError(f"{Path(command[0]).name} failed: {why[:200]}")
    return done.stdout

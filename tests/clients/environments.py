"""Which foreign clients are tested, and how each is installed into a folder that later runs find again.

The Python SDK 2 is not among them: it is a dependency of the tests, so it is there already.
"""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PYTHON_SDK_1 = "mcp>=1.26,<2"
NODE_PACKAGES = {
    "@modelcontextprotocol/sdk": "^1.25.0",
    "@modelcontextprotocol/client": "^2.0.0",
    "@modelcontextprotocol/inspector": "~0.15.0",  # the last one that runs on Node 20
}
NODE_MAJOR_MIN = 20

INSTALL_TIMEOUT_S = 240  # of one command; a slow registry needs a minute


class UnavailableError(Exception):
    """The client cannot be had on this machine; says why."""


def python_sdk_1(cache: Path) -> Path:
    """The interpreter of an environment with the Python SDK 1, which cannot live beside version 2."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "python-sdk-1"

    def build() -> None:
        _run([sys.executable, "-m", "venv", folder], cache)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--retries", "2", PYTHON_SDK_1], cache)

    _build_once(folder, {"python": python, "base": sys.base_prefix, "requires": PYTHON_SDK_1}, build)
    return folder / "bin" / "python"


def node_packages(cache: Path) -> tuple[Path, Path]:
    """The node executable, and a folder whose `node_modules` holds the TypeScript clients."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise UnavailableError("there is no node and npm")
    version = _run([node, "--version"], cache).strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        raise UnavailableError(f"node is {version}, the clients need {NODE_MAJOR_MIN} or newer")
    folder = cache / "node-packages"

    def build() -> None:
        folder.mkdir(parents=True)
        package = {"private": True, "dependencies": NODE_PACKAGES}
        (folder / "package.json").write_text(json.dumps(package), encoding="utf-8")
        quietly = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--logs-max=0")
        _run([npm, "install", *quietly, "--fetch-retries=1"], folder)

    _build_once(folder, {"requires": NODE_PACKAGES}, build)
    return Path(node), folder


def _build_once(folder: Path, made_of: Mapping[str, object], build: Callable[[], None]) -> None:
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


def _run(command: list[str | Path], cwd: Path) -> str:
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

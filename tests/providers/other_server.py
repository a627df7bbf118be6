"""A server that somebody else wrote, installed and started as docs/providers.md says."""

import contextlib
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from codexdb.testing.server_process import ENVIRONMENT_KEPT
from tests.installing import build_once, run
from tests.providers.page import Recipe

READY = re.compile(r"\b(listening|running) on http", re.IGNORECASE)
READY_TIMEOUT_S = 60  # litellm loads for ten seconds on an idle machine
COMMAND_TIMEOUT_S = 20
END_GRACE_S = 5

Ports = Mapping[int, int]
"""Ports on the page, and which free ones stand for them."""


def free_ports(*named: int) -> dict[int, int]:
    """A free port for each. Nobody holds it until a server does."""
    with contextlib.ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.socket()) for port in named}
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        return {port: each.getsockname()[1] for port, each in sockets.items()}


def moved(text: str, ports: Ports) -> str:
    """The text with those ports instead of the page's."""
    for named, port in ports.items():
        text = re.sub(rf"\b{named}\b", str(port), text)
    return text


def installed(recipe: Recipe, cache: Path) -> Path:
    """The folder in which the page's command has installed the server.

    Raises:
        UnavailableError: it could not.
    """
    folder = cache / recipe.name

    def build() -> None:
        folder.mkdir(parents=True)
        for command in recipe.install.split(" && "):
            words = shlex.split(command)
            run([sys.executable if word == "python3" else word for word in words], folder)

    build_once(folder, {"install": recipe.install, "python": sys.version, "base": sys.base_prefix}, build)
    return folder


class OtherServer:
    """One running server in `folder`. It listens once the `with` block is entered, and is gone when it is left."""

    def __init__(self, recipe: Recipe, program: Path, folder: Path, ports: Ports) -> None:
        self._recipe = recipe
        self._folder = folder
        self._ports = ports
        self._environment = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
        self._environment["PYTHONUNBUFFERED"] = "1"  # it says that it listens, and we wait for that
        folder.mkdir()
        for each in program.iterdir():
            (folder / each.name).symlink_to(each)
        for name, text in recipe.files.items():
            (folder / name).write_text(moved(text, ports), encoding="utf-8")
        self._said: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["sh", "-c", moved(self._recipe.start, self._ports)],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready()
            for command in self._recipe.before_turn:
                self._run(command)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._reader.join(END_GRACE_S)

    def after_turn(self) -> str:
        """What the page's commands for after the turn print; each has to succeed."""
        return "".join(self._run(command) for command in self._recipe.after_turn)

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", moved(command, self._ports)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                self._said.append(line)
                if READY.search(line):
                    return
        raise AssertionError(f"{self._recipe.name} does not listen; it said:\n{''.join(self._said)}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

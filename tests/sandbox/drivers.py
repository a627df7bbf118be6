"""Starts the driver as root, or as a user without rights, on a copy of the package that anybody may read."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "nobody"
AT_ONCE = 2  # scripts of one driver; there are two drivers, and this is not meant to be a load test
ANSWER_S = 120  # for one answer; the driver itself gives a script half a minute
PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
OLD = "import sys; sys.exit(sys.version_info < (3, 11))"


def why_not(user: str) -> str | None:
    """Why there can be no driver for "root" or "user" here."""
    if user == "root":
        return None if os.geteuid() == 0 else "needs root"
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(NOBODY)
    except KeyError:
        return f"there is no user {NOBODY}"
    return None if _python(_rights(user)) else "no Python that another user may run"


def _rights(user: str) -> dict[str, Any]:
    """How `subprocess` is to start something as that user."""
    if user == "root" or os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(NOBODY)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _python(rights: dict[str, Any]) -> str | None:
    for path in PYTHONS:
        try:
            if subprocess.call([path, "-IS", "-c", OLD], cwd="/", **rights) == 0:
                return path
        except OSError:
            continue
    return None


class Driver:
    """Asks one driver; answers come in any order, and `result` waits for the one that is wanted."""

    def __init__(self, user: str, base: Path) -> None:
        rights = _rights(user)
        python = _python(rights)
        assert python is not None
        package = base / "package"
        if not package.exists():
            shutil.copytree(ROOT / "codexdb/agent/sandbox", package / "codexdb/agent/sandbox")
            for folder in ("codexdb", "codexdb/agent"):
                shutil.copy(ROOT / folder / "__init__.py", package / folder)
            shutil.copy(Path(__file__).with_name("driver.py"), package)
        home = base / user
        home.mkdir()
        if rights:
            os.chown(home, rights["user"], rights["group"])
        self.process = subprocess.Popen(
            [python, "-s", "-B", str(package / "driver.py"), str(home), str(AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "TMPDIR": str(home)},
            **rights,
        )
        self._answers: dict[int, dict[str, Any]] = {}
        self._some = threading.Condition()
        self._next = 0
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, **request: str) -> int:
        self._next += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": self._next, **request}).encode() + b"\n")
        self.process.stdin.flush()
        return self._next

    def result(self, number: int) -> dict[str, Any]:
        with self._some:
            arrived = self._some.wait_for(lambda: number in self._answers or self._closed, ANSWER_S)
            assert arrived
            assert number in self._answers, "the driver ended"
            return self._answers[number]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(ANSWER_S)
        finally:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            with self._some:
                self._answers[answer["id"]] = answer
                self._some.notify_all()
        self.process.stdout.close()
        with self._some:
            self._closed = True
            self._some.notify_all()

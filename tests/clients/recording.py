"""A server that keeps a record of its conversation, whoever starts it.

A foreign client is given the command of this file instead of the server's own. It starts the real server, copies the
lines of both ways, and writes each into a named pipe that the test reads. Client programs hide what they send; here a
test sees it. Whatever the server leaves running holds the pipe open, so the pipe's end proves that nothing was.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from codexdb.testing.server_process import ENVIRONMENT_KEPT

END_TIMEOUT_S = 10  # from the client's end to the pipe's: clients wait two seconds, then kill the recorder


class Line(NamedTuple):
    """One line: `in` is what the client sent, `out` what the server said."""

    way: Literal["in", "out"]
    text: str

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.text)


class Recording:
    """The record of one server, and the command that starts it: one start for each recording."""

    def __init__(self, folder: Path, home: Path) -> None:
        pipe = folder / "recording.pipe"
        os.mkfifo(pipe)
        environment = {key: os.environ[key] for key in ENVIRONMENT_KEPT if key in os.environ}
        plan = folder / "recording.json"
        start = {
            "argv": [sys.executable, "-m", "codexdb", "serve"],
            "env": environment | {"CODEX_HOME": str(home)},
            "cwd": str(home),
            "pipe": str(pipe),
        }
        plan.write_text(json.dumps(start), encoding="utf-8")
        self.command = [sys.executable, str(Path(__file__).resolve()), str(plan)]
        self._lines: list[Line] = []
        self._code: int | None = None
        self._reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._reader.start()

    def finished(self) -> list[Line]:
        """Everything that was said, once nothing runs any more.

        Raises:
            TimeoutError: something does.
            AssertionError: the server did not end by itself, and well, in the time that its client gave it.
        """
        self._reader.join(END_TIMEOUT_S)
        if self._reader.is_alive():
            raise TimeoutError(
                f"{END_TIMEOUT_S} s after the client ended, something still runs that the server started"
            )
        assert self._code == 0, "the server had to be killed" if self._code is None else f"exit code {self._code}"
        return self._lines

    def _read(self, pipe: Path) -> None:
        with pipe.open(encoding="utf-8") as lines:
            for line in lines:
                way, text = json.loads(line)
                if way == "end":
                    self._code = int(text)
                else:
                    self._lines.append(Line(way, text))


class _Recorder:
    """Copies lines, in binary: what a client gets is byte for byte what the server wrote."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._writing = threading.Lock()

    def note(self, way: Literal["in", "out", "end"], text: str) -> None:
        with self._writing:
            self._pipe.write(json.dumps([way, text]).encode() + b"\n")
            self._pipe.flush()

    def copy(self, way: Literal["in", "out"], source: IO[bytes], sink: IO[bytes]) -> None:
        try:
            with source, sink:
                for line in source:
                    self.note(way, line.decode().rstrip("\n"))
                    sink.write(line)
                    sink.flush()
        except BrokenPipeError:
            pass  # one side is gone; the other notices by itself


def main() -> None:
    """Run one server until it ends."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(plan["pipe"]).open("wb") as pipe:
        server = subprocess.Popen(
            plan["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=plan["cwd"],
            env=plan["env"],
            pass_fds=(pipe.fileno(),),
        )
        if server.stdin is None or server.stdout is None:
            raise AssertionError("both were asked for")
        recorder = _Recorder(pipe)
        requests = threading.Thread(target=recorder.copy, args=("in", os.fdopen(0, "rb"), server.stdin), daemon=True)
        requests.start()
        recorder.copy("out", server.stdout, os.fdopen(1, "wb"))
        code = server.wait()
        recorder.note("end", str(code))
    os._exit(0)  # the other thread may still wait for the client


if __name__ == "__main__":
    main()

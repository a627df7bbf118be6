"""Runs the patch program with a fault: at its nth call to the file system it is killed, or that call fails.

`python -P faults.py kill|fail N`: the patch is on stdin, the folder is the working directory. N = 0 counts: the number
of calls is the last line on stderr.
"""

import errno
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from codexdb.agent.tools.patch.__main__ import main

CALLS = frozenset(
    {"open", "fcntl.flock"}
    | {f"os.{name}" for name in ("rename", "remove", "link", "mkdir", "rmdir", "chmod", "chown", "scandir")}
)


def _watch(kind: str, wanted: int) -> list[int]:
    seen = [0]

    def on_call(name: str, _: tuple[object, ...]) -> None:
        if name not in CALLS:
            return
        seen[0] += 1
        if seen[0] == wanted and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if seen[0] == wanted:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    sys.addaudithook(on_call)
    return seen


if __name__ == "__main__":
    calls = _watch(sys.argv[1], int(sys.argv[2]))
    code = main()
    sys.stderr.write(f"{calls[0]}\n")
    sys.exit(code)

"""Two processes that write to one file take turns."""

import json
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import cast

from making import query

from codexdb.store import revision

COMMITS = 400
WAIT_S_MAX = 1.0  # of one commit behind the other process's; a tenth of it is already unusual


def test_neither_of_two_writing_processes_starves(path: Path) -> None:
    revision.create_directory(path)
    revision.prepare(path)
    program = [sys.executable, str(Path(__file__).with_name("hammer.py")), str(path), str(COMMITS)]
    with ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        times = [cast("list[int]", json.loads(process.communicate(timeout=30)[0])) for process in both]
    assert query(path, "SELECT count(*) FROM workers") == [(2 * (COMMITS + 1),)]
    assert max(later - earlier for each in times for earlier, later in pairwise(each)) < WAIT_S_MAX * 1e9
    first, second = sorted(times, key=lambda each: each[-1])
    meanwhile = sum(first[0] <= each <= first[-1] for each in second)
    assert meanwhile >= COMMITS / 5  # while the quicker one did all of its own

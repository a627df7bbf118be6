"""`python -m tests.crash.upgrading --megabytes 100 --kills 50`: kill -9 a server while it upgrades an old database.

After each kill the file has to have the old schema or the new one, whole, with every row as it was; the next server has
to serve, and to leave the new schema with the same rows. Exits 1 where that did not hold.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from codexdb.store import revision
from codexdb.testing.server_process import ServerProcess, write_config
from tests.crash.invariants import query
from tests.migration.filling import TABLES, contents, fill
from tests.migration.snapshot import migrated, schema
from tests.process.talking import until

OLD = "0001"
KEPT = tuple(table for table in TABLES if table != "workers")  # a server that starts adds itself


class Upgrading:
    """One old database, upgraded again and again in a folder of its own."""

    def __init__(self, folder: Path, megabytes: float) -> None:
        self._folder = folder
        self._old = folder / "old.sqlite3"
        fill(self._old, megabytes)
        self._rows = contents(self._old, KEPT)
        self._objects = {number: self._made(number) for number in (OLD, revision.HEAD)}
        self._home = folder / "home"
        self.whole_s = self._whole()

    def _made(self, number: str) -> dict[tuple[str, str], str]:
        path = self._folder / f"{number}.sqlite3"
        migrated(path, number)
        return schema(path)

    def _renew(self) -> Path:
        shutil.rmtree(self._home, ignore_errors=True)
        path = self._home / "codexdb" / "codexdb.sqlite3"
        path.parent.mkdir(parents=True)
        write_config(self._home, "http://127.0.0.1:9/v1", "chat")
        shutil.copyfile(self._old, path)
        return path

    def _whole(self) -> float:
        """How long an undisturbed upgrade takes, from its first sign to its end."""
        path = self._renew()
        with ServerProcess(self._home, "--no-worker") as server:
            server.initialize()
            began = self._begun(path)
            server.call_tool("conversations_list", {"limit": 1}, timeout=600)
            return time.monotonic() - began

    def _begun(self, path: Path) -> float:
        until(lambda: bool([*path.parent.glob("*.part"), *path.parent.glob("*.backup")]), "the backup")
        return time.monotonic()

    def kill_at(self, after_s: float) -> str:
        """Kill a server so long after its upgrade began; the schema that it left, or what was wrong with it."""
        path = self._renew()
        with ServerProcess(self._home, "--no-worker") as server:
            server.initialize()
            self._begun(path)
            time.sleep(after_s)  # the instant of the kill is the input
            server.kill()
        ((found,),) = query(path, "SELECT version_num FROM alembic_version")
        if problem := self._broken(path, str(found)):
            return f"after the kill: {problem}"
        with ServerProcess(self._home, "--no-worker") as server:
            server.initialize()
            result = server.call_tool("conversations_list", {"search": "number1x1"}, timeout=600)
            if result.get("isError") or len(result["structuredContent"]["conversations"]) != 1:
                return f"the next server said {result}"
        return self._broken(path, revision.HEAD) or str(found)

    def _broken(self, path: Path, stamped: str) -> str:
        if schema(path) != self._objects.get(stamped):
            return f"the objects are not those of {stamped}"
        if query(path, "PRAGMA integrity_check") != [("ok",)]:
            return "the file is damaged"
        rows = contents(path, KEPT)
        return ", ".join(f"rows of {table} differ" for table in KEPT if rows[table] != self._rows[table])


def kill_again_and_again(
    folder: Path, megabytes: float, kills: int, seed: int, told: Callable[[int, str], object]
) -> Counter[str]:
    """Kill at so many instants, spread at random over the time that an upgrade takes; what each left."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    upgrading = Upgrading(folder, megabytes)
    found: Counter[str] = Counter()
    for number in range(1, kills + 1):
        left = upgrading.kill_at(rng.uniform(0, upgrading.whole_s))
        found[left] += 1
        told(number, left)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codexdb-") as folder:
        found = kill_again_and_again(
            Path(folder),
            options.megabytes,
            options.kills,
            options.seed,
            lambda number, left: sys.stderr.write(f"kill {number}: {left}\n"),
        )
    sys.stdout.write(f"{dict(found)}\n")
    return 0 if set(found) <= {OLD, revision.HEAD} else 1


if __name__ == "__main__":
    sys.exit(main())

"""`kill -9` while an old database is upgraded: it is old or new, never between. `upgrading` does the same at size."""

from pathlib import Path

import pytest

from codexdb.store import revision
from tests.crash.upgrading import OLD, kill_again_and_again

KILLS = 6
MEGABYTES = 3.0


@pytest.mark.slow
def test_a_server_killed_while_it_upgrades_leaves_the_old_schema_or_the_new_one(tmp_path: Path) -> None:
    found = kill_again_and_again(tmp_path, MEGABYTES, KILLS, seed=1, told=lambda _number, _left: None)
    assert set(found) <= {OLD, revision.HEAD}, found
    assert found.total() == KILLS

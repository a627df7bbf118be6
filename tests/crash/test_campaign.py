"""Twenty kills under load, and every promise checked."""

from pathlib import Path

import pytest

from codexdb.testing.torture import Torture
from tests.crash.campaign import table

KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_when_servers_are_killed(tmp_path: Path) -> None:
    """Also: nothing runs twice, or without the yes that it needs; no question is lost, or asked twice on a connection;
    every turn ends once, and the turns that were hit go on to the text that was due.
    """
    report = Torture(tmp_path / "torture", seed=20).run(KILLS)

    assert report.findings.broken == [], table(report)
    assert report.findings.not_resumed == [], table(report)
    assert report.phases.total() == KILLS
    assert report.findings.hit > 0, "no kill hit a turn"
    assert report.findings.open_at_kills > 0, "nobody had a question to answer when a server was killed"
    assert report.findings.acknowledged > 0

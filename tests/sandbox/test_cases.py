"""What a mode forbids, the kernel refuses; and what it allows, works: by backend, mode and user."""

import pytest

from tests.sandbox.cases import CASES, Case
from tests.sandbox.conftest import Results, combinations, missing

METADATA = {"change a mode outside", "change times outside"}  # what Landlock does not know is no loss of content


@pytest.mark.timeout(300)  # the first one waits for the drivers to start
@pytest.mark.parametrize(
    ("case", "mode", "backend", "user"),
    [
        pytest.param(*each, id=f"{each[0].name}-{each[1]}-{each[2]}-{each[3]}".replace(" ", "_"))
        for each in combinations()
    ],
)
def test_a_mode_holds_and_is_no_wider(results: Results, case: Case, mode: str, backend: str, user: str) -> None:
    if reason := missing(backend, user):
        pytest.skip(reason)
    came = results.of(case, mode, backend, user)
    assert "error" not in came, came["error"]
    wanted = case.expected(mode, backend, user)
    if wanted is not None:
        assert (came["code"] == 0) == wanted, came["output"]
    if mode != "d":
        assert came["outside_kept"]
        assert came["git_kept"] or (backend == "landlock" and mode != "r")


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)

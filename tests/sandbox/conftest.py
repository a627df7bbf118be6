"""The drivers of this folder's cases."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexdb.agent.sandbox.choice import survey
from codexdb.agent.sandbox.confinement import Backend
from tests.sandbox.cases import CASES, Case
from tests.sandbox.drivers import Driver, why_not

BACKENDS = ("bwrap", "landlock")
USERS = ("root", "user")
Key = tuple[str, str, str, str]  # name, mode, backend, user


def combinations() -> Iterator[tuple[Case, str, str, str]]:
    """Every case in each of its modes, for each user, and for each backend where the mode has one."""
    for user in USERS:
        for case in CASES:
            for mode in case.modes:
                for backend in ("none",) if mode == "d" else BACKENDS:
                    yield case, mode, backend, user


def missing(backend: str, user: str) -> str | None:
    """Why a case cannot run here."""
    found = {each.backend: each.why_not for each in survey()}
    reason = found.get(Backend(backend))
    return f"{backend}: {reason}" if reason else why_not(user)


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="codexdb-sandbox-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Results:
    """Has the chosen cases run at once, and hands out what came of each."""

    def __init__(self, base: Path, chosen: list[tuple[Case, str, str, str]]) -> None:
        runnable = [each for each in chosen if missing(each[2], each[3]) is None]
        self.drivers = {user: Driver(user, base) for user in {each[3] for each in runnable}}
        self._numbers = {
            (case.name, mode, backend, user): self.drivers[user].ask(script=case.script, mode=mode, backend=backend)
            for case, mode, backend, user in runnable
        }

    def of(self, case: Case, mode: str, backend: str, user: str) -> dict[str, object]:
        return self.drivers[user].result(self._numbers[case.name, mode, backend, user])


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, base: Path) -> Iterator[Results]:
    chosen = [
        (call.params["case"], call.params["mode"], call.params["backend"], call.params["user"])
        for item in request.session.items
        if (call := getattr(item, "callspec", None)) is not None and "case" in call.params and "mode" in call.params
    ]
    made = Results(base, chosen)
    yield made
    for driver in made.drivers.values():
        driver.close()

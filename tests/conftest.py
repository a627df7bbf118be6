"""What every test may ask for: a home, a scripted model, servers on both."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer, write_config


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty CODEX_HOME."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def database(home: Path) -> Path:
    """Where a server of `home` keeps its rows; not there before the first one ran."""
    return home / "codexdb" / "codexdb.sqlite3"


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A model endpoint on its own thread; `model.add(…)` gives it steps, without them it says "ok"."""
    with ScriptedModel() as endpoint:
        yield endpoint


@pytest.fixture
def server(home: Path, model: ScriptedModel) -> Iterator[StartServer]:
    """Starts servers on `home` and `model`: `server(*arguments, wire_api="chat", initialize=True, …)`.

    The first start writes config.toml with `config` as top-level keys, unless the test has written it. Other keywords
    go to `ServerProcess`. All servers are gone after the test.
    """
    with ExitStack() as stack:

        def start(
            *arguments: str,
            wire_api: str = "chat",
            config: dict[str, object] | None = None,
            initialize: bool = True,
            elicitation: bool = True,
            **options: Any,
        ) -> ServerProcess:
            if not (home / "config.toml").exists():
                write_config(home, model.base_url, wire_api, **(config or {}))
            process = stack.enter_context(ServerProcess(home, *arguments, **options))
            if initialize:
                process.initialize(elicitation=elicitation)
            return process

        yield start


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One initialized server for those tests of a module that leave nothing behind that another would notice."""
    path = tmp_path_factory.mktemp("home")
    with ScriptedModel() as endpoint:
        write_config(path, endpoint.base_url, "chat")
        with ServerProcess(path) as process:
            process.initialize()
            yield process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much the sandbox was tried, and how much it was not; and skips never pass unseen: one line per reason.

    Here, and not in a folder of tests: whoever hands tests to several processes reads only this file.
    """
    counts = Counter(
        outcome
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if "tests/sandbox/" in report.nodeid
    )
    if counts:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        terminalreporter.write_line(f"sandbox cases: {counts.total()} ({told})")
    reports: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    reasons = Counter(_reason(report) for report in reports)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}", yellow=True)


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)

"""Servers of others: installed once, started for a test, and gone after it."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.installing import UnavailableError
from tests.providers.other_server import OtherServer, Ports, free_ports, installed
from tests.providers.page import recipe

HEAVY = "CODEXDB_TEST_HEAVY"
PORT, PROXY_PORT = 4010, 4000  # on the page

StartOther = Callable[[str], OtherServer]
"""What the fixture `start_other` is."""


@pytest.fixture(scope="session")
def server_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where installed servers are kept: in pytest's cache, unless that is switched off."""
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        return pytestconfig.cache.mkdir("servers")
    return tmp_path_factory.mktemp("servers")


@pytest.fixture
def ports() -> Ports:
    """Free ports, for those on the page."""
    return free_ports(PORT, PROXY_PORT)


@pytest.fixture
def start_other(server_cache: Path, tmp_path: Path, ports: Ports) -> Iterator[StartOther]:
    """Starts the server of that section of the page; skips the test where it cannot be had."""
    with ExitStack() as stack:

        def start(name: str) -> OtherServer:
            found = recipe(name)
            for command in (found.install, *found.before_turn):
                needed = shlex.split(command)[0]
                if shutil.which(needed) is None:
                    pytest.skip(f"no {name}: there is no {needed}")
            try:
                program = installed(found, server_cache)
            except UnavailableError as reason:
                pytest.skip(f"no {name}: {reason}")
            return stack.enter_context(OtherServer(found, program, tmp_path / name, ports))

        yield start


@pytest.fixture
def other(name: str, start_other: StartOther) -> OtherServer:
    """The server of that name at `PORT`. `name` is a parameter of the test."""
    return start_other(name)


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> OtherServer:
    """litellm at `PROXY_PORT`, before aimock."""
    if os.environ.get(HEAVY) != "1":
        pytest.skip(f"litellm is heavy: {HEAVY}=1 runs it")
    start: StartOther = request.getfixturevalue("start_other")
    start("aimock")
    return start("litellm")

"""Foreign clients: installed once, started against a real server, and gone after the test."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import environments
import pytest
from foreign import ForeignClient

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import write_config
from tests.installing import UnavailableError

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def client_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where installed clients are kept: in pytest's cache, unless that is switched off."""
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        return pytestconfig.cache.mkdir("clients")
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def python_sdk_1(client_cache: Path) -> Path:
    """An interpreter that has the Python SDK 1."""
    try:
        return environments.python_sdk_1(client_cache)
    except UnavailableError as reason:
        pytest.skip(f"no Python SDK 1: {reason}")


@pytest.fixture(scope="session")
def node_packages(client_cache: Path) -> tuple[Path, Path]:
    """The node executable and the folder with the TypeScript clients, our programs among them."""
    try:
        node, folder = environments.node_packages(client_cache)
    except UnavailableError as reason:
        pytest.skip(f"no TypeScript clients: {reason}")
    for program in PROGRAMS.glob("*.mjs"):  # node looks for packages beside the file that imports them
        shutil.copy(program, folder)
    return node, folder


@pytest.fixture
def client(
    request: pytest.FixtureRequest, name: str, tmp_path: Path, home: Path, model: ScriptedModel
) -> Iterator[ForeignClient]:
    """The program of that name in `programs`, on `home` and `model`. `name` is a parameter of the test."""
    if name.startswith("typescript"):
        node, folder = request.getfixturevalue("node_packages")
        command = [node, folder / f"{name}.mjs"]
    else:
        python = request.getfixturevalue("python_sdk_1") if name == "python_sdk_1" else sys.executable
        command = [python, PROGRAMS / f"{name}.py"]
    write_config(home, model.base_url, "chat")
    with ForeignClient([str(word) for word in command], tmp_path, home) as started:
        yield started

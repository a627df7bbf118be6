"""One server on an unreliable endpoint for each wire of a module."""

from collections.abc import Iterator

import pytest

from tests.process.unreliable import WIRES, Unreliable


@pytest.fixture(scope="module", params=WIRES)
def endpoint_(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unreliable]:
    """Kept for the whole module; tests ask for `endpoint`."""
    wire: str = request.param
    with Unreliable(wire, tmp_path_factory.mktemp(wire)).running() as unreliable:
        yield unreliable


@pytest.fixture
def endpoint(endpoint_: Unreliable) -> Iterator[Unreliable]:
    """Both wires in turn, each with config.toml as it was."""
    yield endpoint_
    endpoint_.configure()

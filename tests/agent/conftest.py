"""Providers on the scripted model, and what a request to it looks like."""

from collections.abc import AsyncIterator, Callable

import pytest

from codexdb.agent import endpoint
from codexdb.agent.endpoint import HttpEndpoint
from codexdb.agent.model import ModelEvent, ModelRequest
from codexdb.config.provider import Provider, WireApi
from codexdb.domain.item import input_text, user_message
from codexdb.testing.scripted_model import ScriptedModel

Ask = Callable[..., AsyncIterator[ModelEvent]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def _shared_client() -> AsyncIterator[None]:
    yield
    await endpoint.close()


@pytest.fixture
def request_() -> ModelRequest:
    return ModelRequest("session-1", "mock", "Be brief.", [user_message([input_text("hi")])], [])


@pytest.fixture
def client(model: ScriptedModel, _shared_client: None) -> Callable[..., HttpEndpoint]:
    """Makes an endpoint on the scripted model; keywords are fields of its `Provider`."""

    def make(wire_api: WireApi = WireApi.CHAT, **fields: object) -> HttpEndpoint:
        given: dict[str, object] = {"id": "mock", "name": "Mock", "base_url": model.base_url, **fields}
        return HttpEndpoint(Provider(wire_api=wire_api, **given))  # pyright: ignore[reportArgumentType]

    return make

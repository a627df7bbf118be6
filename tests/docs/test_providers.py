"""docs/providers.md says what the code does; what it says of other servers is tried in tests/providers."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from codexdb.agent import failure
from codexdb.config.files import read_config
from codexdb.config.provider import Provider, WireApi
from codexdb.config.providers import find_provider
from codexdb.config.schema import ProviderTable, load, unknown_keys
from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess
from tests.providers.page import PAGE, below, blocks

KEY = "a key that is long enough"

endpoints = pytest.mark.parametrize(
    ("heading", "wire_api", "base_url", "env_key"),
    [
        ("OpenAI", "responses", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("Ollama", "chat", "http://localhost:11434/v1", None),
        ("vLLM, LM Studio, llama.cpp", "chat", "http://127.0.0.1:8000/v1", None),
        ("A litellm proxy", "chat", "http://127.0.0.1:4000/v1", "LITELLM_API_KEY"),
        ("Azure", "responses", "https://my-resource.openai.azure.com/openai", None),
    ],
)


def settings(heading: str) -> str:
    (text,) = blocks("toml", below(f"### {heading}"))
    return text


def provider(home: Path, text: str) -> Provider:
    """What the settings choose; they hold no key that the code does not know."""
    (home / "config.toml").write_text(text, encoding="utf-8")
    config = load(read_config(home), "{}")
    assert unknown_keys(config) == ()
    return find_provider(config.model_provider or "openai", config, {})


@endpoints
def test_an_example_chooses_the_endpoint_that_it_names(
    heading: str, wire_api: str, base_url: str, env_key: str | None, home: Path
) -> None:
    found = provider(home, settings(heading))
    assert (found.wire_api, found.base_url, found.env_key) == (WireApi(wire_api), base_url, env_key)


def test_every_example_is_tried() -> None:
    tried = endpoints.args[1]
    assert [case[0] for case in tried] == re.findall(r"^### (.+)$", PAGE.partition("## Try it")[0], re.MULTILINE)


def test_the_table_has_every_key_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\| (.*) \|$", below("## The table"), re.MULTILINE)
    told = {key: tomllib.loads(f"x = {default}")["x"] if default else None for key, default, _ in rows}
    fields = ProviderTable.model_fields
    known: dict[str, Any] = {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in fields.items()
    }
    assert told == known
    required = {key for key, _, meaning in rows if meaning.endswith("Required.")}
    assert required == {name for name, field in fields.items() if field.is_required()} | {"base_url"}


def test_the_statuses_that_are_sent_again_are_those_of_the_page() -> None:
    (text,) = re.findall(r"the statuses ([\d, and]+) and (\d+) to (\d+)\.", PAGE.replace("\n", " "))
    told = {int(status) for status in re.findall(r"\d+", text[0])} | {*range(int(text[1]), int(text[2]) + 1)}
    assert told == {status for status in range(300, 600) if failure.unexpected_status(status, "", (), None).again}


def test_the_example_for_azure_sends_key_and_version_where_azure_wants_them(home: Path, model: ScriptedModel) -> None:
    text = settings("Azure")
    address = provider(home, text).base_url
    (home / "config.toml").write_text(text.replace(address, f"{model.base_url}/openai"), encoding="utf-8")
    model.add(say("hello"))
    with ServerProcess(home, env={"AZURE_OPENAI_API_KEY": KEY}) as server:
        server.initialize()
        assert server.call_tool("codex", {"prompt": "Hi"})["structuredContent"]["content"] == "hello"
    (request,) = model.requests
    assert request.path == "/v1/openai/responses?api-version=2025-04-01-preview"
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers

"""Names, schemas and results of MCP tools, from whatever a server says."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexdb.agent.tools.images import IMAGE_BYTES_MAX, IMAGES_MAX
from codexdb.agent.tools.mcp_result import (
    EVENT_RESULT_BYTES_MAX,
    TOOL_DESCRIPTION_CHARS_MAX,
    TOOL_SCHEMA_BYTES_MAX,
    McpTool,
    failure,
    hashed_name,
    needs_approval,
    result_of,
    tool_name,
    tool_of,
)
from codexdb.agent.tools.mcp_servers import _named  # pyright: ignore[reportPrivateUsage]
from codexdb.domain import event
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.session import ApprovalPolicy

PNG = b"\x89PNG\r\n\x1a\n"
FIT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def offered(listed: JsonObject) -> McpTool:
    tool = tool_of("s", listed)
    assert isinstance(tool, McpTool)
    return tool


def image(content: bytes) -> JsonObject:
    return {"type": "image", "data": base64.b64encode(content).decode(), "mimeType": "image/png"}


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_name_that_fits_stays() -> None:
    assert tool_name("db", "list-tables_2") == "db__list-tables_2"
    assert tool_name("s" * 30, "t" * 32) == "s" * 30 + "__" + "t" * 32


@pytest.mark.parametrize(("server", "tool"), [("s", "t" * 70), ("a b", "c"), ("s", "ü"), ("s" * 300, "t"), ("", "")])
def test_every_other_name_is_made_to_fit_and_told_apart_by_a_hash(server: str, tool: str) -> None:
    name = tool_name(server, tool)
    assert FIT.fullmatch(name)
    if server:
        assert name != tool_name(server, f"{tool}!")
        assert name == tool_name(server, tool)


@given(st.lists(st.tuples(st.text(max_size=80), st.text(min_size=1, max_size=80)), unique=True, max_size=8))
def test_no_two_tools_share_a_name(pairs: list[tuple[str, str]]) -> None:
    tools = [tool for server, tool_ in pairs if isinstance(tool := tool_of(server, {"name": tool_}), McpTool)]
    named = _named(tools)
    assert len(named) == len(tools) == len(pairs)
    assert all(FIT.fullmatch(name) and tool.spec.name == name for name, tool in named.items())


def test_names_that_are_equal_by_chance_are_told_apart() -> None:
    tools = [tool_of("a", {"name": "b__c"}), tool_of("a__b", {"name": "c"})]
    named = _named([tool for tool in tools if isinstance(tool, McpTool)])
    assert list(named) == ["a__b__c", hashed_name("a__b", "c")]


# -- tools -----------------------------------------------------------------------------------------------------------


SCHEMAS: list[tuple[object, JsonObject]] = [
    (None, {"type": "object", "properties": {}}),
    ([], {"type": "object", "properties": {}}),
    ({"type": ["object", "null"]}, {"type": "object", "properties": {}}),
    ({"properties": None}, {"type": "object", "properties": {}}),
    (
        {"anyOf": [{}], "properties": {"a": {"type": ["string", "null"]}}, "$defs": {"x": {}}},
        {"anyOf": [{}], "properties": {"a": {"type": ["string", "null"]}}, "$defs": {"x": {}}, "type": "object"},
    ),
]


@pytest.mark.parametrize(("schema", "parameters"), SCHEMAS)
def test_a_schema_is_passed_through_as_one_of_an_object(schema: object, parameters: JsonObject) -> None:
    assert offered({"name": "t", "inputSchema": schema}).spec.parameters == parameters


def test_descriptions_are_bounded_and_titles_stand_in() -> None:
    long = offered({"name": "t", "description": "x" * 100_000}).spec.description
    assert len(long) == TOOL_DESCRIPTION_CHARS_MAX
    assert offered({"name": "t", "title": "A title"}).spec.description == "A title"


def test_what_cannot_be_offered_is_told() -> None:
    assert tool_of("s", {"name": ""}) == tool_of("s", "junk") == "it has no name"
    huge = {"name": "t", "inputSchema": {"description": "x" * TOOL_SCHEMA_BYTES_MAX}}
    assert tool_of("s", huge) == f"its schema is larger than {TOOL_SCHEMA_BYTES_MAX} bytes"


@pytest.mark.parametrize("policy", ApprovalPolicy)
@pytest.mark.parametrize(
    ("annotations", "reads"),
    [({}, False), ({"readOnlyHint": True}, True), ({"readOnlyHint": False}, False), ({"readOnlyHint": "true"}, False)],
)
def test_only_untrusted_asks_and_not_about_tools_that_read(
    policy: ApprovalPolicy, annotations: JsonObject, reads: bool
) -> None:
    assert needs_approval(annotations, policy) == (policy == "untrusted" and not reads)


@given(ANYTHING)
def test_anything_that_a_server_lists_is_a_tool_or_a_reason(listed: object) -> None:
    assert isinstance(tool_of("s", listed), McpTool | str)


# -- results ---------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["content", "structuredContent", "isError", "x"]), ANYTHING))
def test_anything_that_a_server_answers_is_a_result(raw: JsonObject) -> None:
    result = result_of(raw, 1)
    assert result.failed == (raw.get("isError") is True)
    assert list(result.event) == ["Ok"]


def test_images_are_bounded_in_number_and_size() -> None:
    many = result_of({"content": [image(PNG)] * (IMAGES_MAX + 2)}, 1)
    assert len(many.images) == IMAGES_MAX
    assert many.text == "[2 further images, not shown]"
    large = result_of({"content": [image(PNG + bytes(IMAGE_BYTES_MAX))]}, 1)
    assert (large.text, large.images) == ("[image of type image/png, not shown]", ())
    assert result_of({"content": [{"type": "image", "data": "no base64!"}]}, 1).images == ()
    fits = result_of({"content": [image(PNG + bytes(IMAGE_BYTES_MAX - len(PNG)))]}, 1)
    assert len(fits.images) == 1


def test_an_image_behind_structured_content_stays() -> None:
    result = result_of({"structuredContent": [], "content": [image(PNG), {"type": "text", "text": "[x]"}]}, 1)
    assert (result.text, len(result.images)) == ("[]", 1)


def test_an_error_without_words_is_still_one() -> None:
    assert result_of({"isError": True}, 1).text == "The tool reported an error, and nothing else."


def test_a_long_result_leaves_the_event_short() -> None:
    raw: JsonObject = {"content": [{"type": "text", "text": "é" * 100_000}], "isError": True}
    assert len(encode(raw)) > EVENT_RESULT_BYTES_MAX
    assert len(encode(result_of(raw, 1).event)) < EVENT_RESULT_BYTES_MAX


def test_texts_that_no_file_could_hold_are_cut_all_the_same() -> None:
    assert failure("\ud800" * 10).output(300) == "?" * 10


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_of_calls_have_the_shapes_that_clients_know() -> None:
    invocation = {"server": "s", "tool": "t", "arguments": {"a": 1}}
    assert event.mcp_tool_call_begin("c1", "s", "t", {"a": 1}).msg == {
        "type": "mcp_tool_call_begin",
        "call_id": "c1",
        "invocation": invocation,
    }
    ended = event.mcp_tool_call_end("c1", "s", "t", {"a": 1}, 1_500_000_000, failure("why").event)
    assert list(ended.msg) == ["type", "call_id", "invocation", "duration", "result"]
    assert ended.msg == {
        "type": "mcp_tool_call_end",
        "call_id": "c1",
        "invocation": invocation,
        "duration": {"secs": 1, "nanos": 500_000_000},
        "result": {"Err": "why"},
    }

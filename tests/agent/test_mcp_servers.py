"""Tools of configured MCP servers, against real servers that work, lie, hang and die."""

import os
import select
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from codexdb.agent.tools import mcp_process
from codexdb.agent.tools.mcp_client import MCP_STARTS_MAX, MCP_TOOLS_MAX, ToolLists
from codexdb.agent.tools.mcp_result import McpResult
from codexdb.agent.tools.mcp_servers import MCP_SERVERS_MAX, NOT_INSTALLED, McpTools, parse
from codexdb.config.mcp_server import McpServer
from codexdb.domain.json import JsonObject, decode_object
from tests.agent import mcp_test_server
from tests.process.talking import until

PROGRAM = Path(mcp_test_server.__file__)
WAIT_S = 60
TOOL_NAMES = [*mcp_test_server.TOOLS, mcp_test_server.LONG, "with space"]


def server(name: str = "test", *options: str, **fields: Any) -> McpServer:
    given: dict[str, Any] = {"startup_timeout_s": WAIT_S, "tool_timeout_s": WAIT_S, **fields}
    return McpServer(name, sys.executable, (str(PROGRAM), *options), **given)


def script(name: str, code: str, *arguments: str, **fields: Any) -> McpServer:
    """A server that is none."""
    given: dict[str, Any] = {"startup_timeout_s": WAIT_S, **fields}
    return McpServer(name, sys.executable, ("-c", code, *arguments), **given)


Made = TypeVar("Made")


def using(
    servers: McpServer | list[McpServer], use: Callable[[McpTools], Awaitable[Made]], *, cwd: str = "/", **options: Any
) -> Made:
    """What `use` makes of the tools; all servers are gone afterwards."""

    async def main() -> Made:
        with anyio.fail_after(WAIT_S):
            given = servers if isinstance(servers, list) else [servers]
            async with McpTools(given, "session-1", cwd, **options) as tools:
                return await use(tools)

    return anyio.run(main)


def call(config: McpServer, *names: str, arguments: JsonObject | None = None) -> list[McpResult]:
    async def use(tools: McpTools) -> list[McpResult]:
        return [await tools.call(f"{config.name}__{name}", arguments or {}) for name in names]

    return using(config, use)


def notices(servers: McpServer | list[McpServer]) -> list[str]:
    async def use(tools: McpTools) -> list[str]:
        assert await tools.specs() == []
        found = tools.notices()
        assert tools.notices() == []
        return found

    return using(servers, use)


def is_gone(pid: int) -> bool:
    """Or a zombie of the test's, which is not ours to reap where it was a grandchild."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# -- what the model is offered ---------------------------------------------------------------------------------------


def test_tools_are_offered_sorted_with_the_schemas_as_they_came() -> None:
    async def use(tools: McpTools) -> None:
        specs = await tools.specs()
        names = [spec.name for spec in specs]
        assert names == sorted(names)
        assert len(names) == len(TOOL_NAMES)
        assert all(0 < len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in names)
        by_name = {spec.name: spec for spec in specs}
        assert by_name["test__echo"].parameters == mcp_test_server.ODD
        assert by_name["test__echo"].description == "Does echo."
        assert by_name["test__die"].parameters == {"type": "object", "properties": {}}
        assert await tools.specs() == specs
        assert tools.notices() == []
        assert len(set(names)) == len(names)
        for name in names:
            tool = await tools.find(name)
            assert tool is not None
            assert tool.tool in TOOL_NAMES
            assert (tool.annotations.get("readOnlyHint") is True) == (name == "test__echo")
        long = next(name for name in names if name.startswith("test__lll"))
        assert (await tools.call(long, {"a": 1})).text == "[('a', 1)]"

    using(server(), use)


def test_the_user_decides_which_tools_are_offered() -> None:
    async def use(tools: McpTools) -> list[str]:
        return [spec.name for spec in await tools.specs()]

    chosen = server(enabled_tools=frozenset({"echo", "pid", "none"}), disabled_tools=frozenset({"pid"}))
    assert using(chosen, use) == ["test__echo"]


def test_more_tools_than_an_endpoint_takes_are_left_out_and_told_of() -> None:
    async def use(tools: McpTools) -> list[str]:
        assert len(await tools.specs()) == MCP_TOOLS_MAX
        return tools.notices()

    (notice,) = using(server("test", "--tools", "200"), use)
    assert str(MCP_TOOLS_MAX) in notice


def test_without_servers_nothing_is_imported() -> None:
    code = (
        "import sys, anyio\n"
        "from codexdb.agent.tools.mcp_servers import McpTools\n"
        "async def main():\n"
        "    async with McpTools([], 's', '/') as tools: assert await tools.specs() == []\n"
        "anyio.run(main)\n"
        "print('mcp' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_a_known_list_is_offered_without_starting_the_server(tmp_path: Path) -> None:
    lists = ToolLists()
    config = server(env={"A": "b"})

    async def first(tools: McpTools) -> list[str]:
        return [spec.name for spec in await tools.specs()]

    async def second(tools: McpTools) -> list[str]:
        (tmp_path / "none").touch()
        return [spec.name for spec in await tools.specs()]

    assert using(config, first, lists=lists) == using(config, second, lists=lists, environ={})
    registered = mcp_process.reaper.registered

    async def third(tools: McpTools) -> None:
        assert await tools.specs()
        assert mcp_process.reaper.registered == registered
        assert (await tools.call("test__echo", {})).text == "[]"
        assert mcp_process.reaper.registered == registered + 1

    using(config, third, lists=lists)
    assert mcp_process.reaper.registered == registered
    assert lists.get(server(env={"A": "c"}), "/") is None
    assert lists.get(config, "/tmp") is None  # noqa: S108


# -- calls -----------------------------------------------------------------------------------------------------------


def test_arguments_arrive_and_texts_come_back() -> None:
    (result,) = call(server(), "echo", arguments={"value": "ä", "deep": [{"a": None}]})
    assert result.text == "[('deep', [{'a': None}]), ('value', 'ä')]"
    assert not result.failed
    assert result.duration_ns > 0
    ok = result.event["Ok"]
    assert isinstance(ok, dict)
    assert ok["content"] == [{"type": "text", "text": result.text}]
    assert result.message("test__echo") is None


def test_texts_are_joined_images_shown_and_the_rest_named() -> None:
    (result,) = call(server(), "parts")
    assert result.text.splitlines() == [
        "one",
        "[image of type image/tiff, not shown]",
        "[audio of type audio/wav, not shown]",
        "from a resource",
        "[resource file:///b of type x/y, not shown]",
        "[resource file:///c c]",
        "two",
    ]
    assert result.images == (f"data:image/png;base64,{mcp_test_server.PNG}",)
    message = result.message("test__parts")
    assert message is not None
    content = message["content"]
    assert isinstance(content, list)
    assert content[-1] == {"type": "input_image", "image_url": result.images[0]}


def test_structured_content_is_preferred() -> None:
    (result,) = call(server(), "structured")
    assert decode_object(result.text) == {"n": [1, None, "ä"]}
    assert len(result.images) == 1


def test_errors_are_told_to_the_model() -> None:
    reported, refused, unknown = call(server(env={"SERVER_KEY": "s3cr3t"}), "wrong", "raises", "none")
    assert (reported.text, reported.failed) == ("The tool reported an error:\nno such table", True)
    assert "Ok" in reported.event
    assert refused.failed
    assert refused.text.startswith("The MCP server `test` refused the call: ")
    assert "s3cr3t" not in refused.text + str(refused.event)
    assert (unknown.text, unknown.failed) == ("unsupported call: test__none", True)


def test_a_call_that_takes_too_long_is_given_up_and_the_server_told() -> None:
    async def use(tools: McpTools) -> None:
        await tools.specs()
        result = await tools.call("test__hang", {})
        assert result.failed
        assert result.text == (
            "The MCP server `test` did not answer within 0.5 seconds. What it did until then stands."
        )
        assert result.event == {"Err": result.text}
        assert (await tools.call("test__was_cancelled", {})).text == "yes"

    using(server(tool_timeout_s=0.5), use)


def test_a_cancelled_call_is_taken_back_and_the_server_stays() -> None:
    async def use(tools: McpTools) -> None:
        before = (await tools.call("test__pid", {})).text
        with anyio.move_on_after(0.2) as scope:
            await tools.call("test__hang", {})
        assert scope.cancelled_caught
        assert (await tools.call("test__was_cancelled", {})).text == "yes"
        assert (await tools.call("test__pid", {})).text == before

    using(server(), use)


def test_a_server_that_dies_in_a_call_is_started_anew_for_the_next() -> None:
    async def use(tools: McpTools) -> None:
        first = (await tools.call("test__pid", {})).text
        died = await tools.call("test__die", {})
        assert died.failed
        assert died.text == "The MCP server `test` ended during the call. What it did until then stands."
        second = await tools.call("test__pid", {})
        assert not second.failed
        assert second.text != first
        for _ in range(MCP_STARTS_MAX - 1):
            await tools.call("test__die", {})
        refused = await tools.call("test__pid", {})
        assert refused.failed
        assert f"ended {MCP_STARTS_MAX} times" in refused.text

    using(server(), use)


DEAF = (
    "import json, os, signal\n"
    "def answer(result):\n"
    "    print(json.dumps({'jsonrpc': '2.0', 'id': json.loads(input())['id'], 'result': result}), flush=True)\n"
    "answer({'protocolVersion': '2025-06-18', 'capabilities': {}, 'serverInfo': {'name': 'deaf', 'version': ''}})\n"
    "input()\n"
    "answer({'tools': [{'name': 'any', 'inputSchema': {}}]})\n"
    "signal.pause()\n"
)


def test_a_server_that_stops_reading_holds_nothing_up() -> None:
    async def use(tools: McpTools) -> None:
        await tools.specs()
        with anyio.fail_after(5):  # one second, and what a busy machine adds
            for _ in range(2):
                result = await tools.call("deaf__any", {"a": "x" * 1_000_000})
                assert "did not answer within 0.5 seconds" in result.text

    using(script("deaf", DEAF, tool_timeout_s=0.5), use)


def test_junk_on_stdout_is_passed_over() -> None:
    results = call(server("test", "--junk"), "junk", "sample", "echo")
    assert [result.text for result in results] == ["after the junk", "asked", "[]"]


def test_a_line_without_end_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_process, "MCP_LINE_BYTES_MAX", 1024 * 1024)
    flooded, after = call(server(), "endless", "echo")
    assert flooded.text == "The MCP server `test` ended during the call. What it did until then stands."
    assert after.text == "[]"


def test_a_long_result_is_cut_for_the_model_and_in_the_event() -> None:
    (result,) = call(server(), "huge")
    assert len(result.text) == 300_000
    assert len(result.output(10_240)) <= 10_240
    assert "left out" in result.output(10_240)
    assert len(str(result.event)) < 10_000


# -- processes -------------------------------------------------------------------------------------------------------


def test_each_session_has_a_process_of_its_own_which_ends_with_the_turn() -> None:
    async def main() -> list[int]:
        with anyio.fail_after(WAIT_S):
            async with McpTools([server()], "one", "/") as one, McpTools([server()], "two", "/") as two:
                pids = [int((await tools.call("test__pid", {})).text) for tools in (one, two, one)]
                pids += [int((await one.call("test__spawn", {})).text)]
                assert not any(is_gone(pid) for pid in pids)
                return pids

    one, two, same, child = anyio.run(main)
    assert one == same != two
    until(lambda: all(is_gone(pid) for pid in (one, two, child)), "the end of all three")


def test_an_exception_of_the_turn_passes_unchanged_and_the_server_is_gone() -> None:
    pids: list[int] = []

    async def use(tools: McpTools) -> None:
        pids.append(int((await tools.call("test__pid", {})).text))
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        using(server(), use)
    assert is_gone(pids[0])


def test_a_cancelled_turn_takes_its_servers_along() -> None:
    pids: list[int] = []

    async def main() -> bool:
        with anyio.fail_after(WAIT_S), anyio.CancelScope() as scope:
            async with McpTools([server()], "one", "/") as tools:
                pids.append(int((await tools.call("test__pid", {})).text))
                scope.cancel()
                await tools.call("test__hang", {})
        return scope.cancelled_caught

    assert anyio.run(main)
    assert is_gone(pids[0])


HOLDER = (
    "import anyio, sys\n"
    "from codexdb.agent.tools.mcp_servers import McpTools\n"
    "from codexdb.config.mcp_server import McpServer\n"
    "async def main():\n"
    "    servers = [McpServer('mute', sys.executable, ('-c', *sys.argv[1:]))]\n"
    "    async with McpTools(servers, 's', '/') as tools: await tools.specs()\n"
    "anyio.run(main)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd")
def test_a_server_dies_with_the_process_that_was_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    command = [sys.executable, "-c", HOLDER, STUBBORN, str(tmp_path / "pid")]
    with subprocess.Popen(command) as holder:
        end = os.pidfd_open(int((tmp_path / "pid").read_text()))
        holder.kill()
    poll = select.poll()
    poll.register(end, select.POLLIN)
    assert poll.poll(WAIT_S * 1000)
    os.close(end)


def test_a_server_gets_a_few_variables_and_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    environ: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": "/h", "API_KEY": "s3cr3t", "PYTHONPATH": "/p"}
    config = server(env={"SERVER_KEY": "own", "HOME": "/mine"}, cwd="sub")

    async def use(tools: McpTools) -> JsonObject:
        return decode_object((await tools.call("test__environment", {})).text)

    found = using(config, use, cwd=str(tmp_path), environ=environ)
    assert {"SERVER_KEY": "own", "HOME": "/mine"}.items() <= found.items()
    assert found["cwd"] == str(tmp_path / "sub")
    assert "API_KEY" not in found
    assert "PYTHONPATH" not in found


# -- servers that do not work ----------------------------------------------------------------------------------------

STUBBORN = (
    "import os, pathlib, signal, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
    "while True: signal.pause()\n"
)


def test_a_program_that_is_missing_is_told_of() -> None:
    (notice,) = notices(McpServer("gone", "no-such-program"))
    assert notice == "MCP client for `gone` failed to start: No such file or directory (os error 2)"
    (notice,) = notices(McpServer("zero", "a\0b"))
    assert notice.startswith("MCP client for `zero` failed to start: ")


def test_a_server_that_never_answers_is_given_up_and_killed(tmp_path: Path) -> None:
    (notice,) = notices(script("mute", STUBBORN, str(tmp_path / "pid"), startup_timeout_s=1))
    assert notice == "MCP client for `mute` failed to start: it did not answer within 1 seconds"
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_server_that_ends_at_once_is_told_of() -> None:
    (notice,) = notices(script("brief", "pass"))
    assert notice == "MCP client for `brief` failed to start: it ended before it had answered"


ANSWER = (
    "import json, sys\n"
    "request = json.loads(input())\n"
    "print(json.dumps({**%s, 'jsonrpc': '2.0', 'id': request['id']}), flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("{'result': {}}", "its answer cannot be used (ValidationError)"),
        ("{'result': {'protocolVersion': '1', 'capabilities': {}, 'serverInfo': {'name': 'x', 'version': ''}}}", "its"),
        ("{'error': {'code': 1, 'message': 'the key s3cr3t is wrong' + '!' * 1000}}", "the key … is wrong!!"),
    ],
)
def test_a_server_that_answers_nonsense_is_told_of(answer: str, reason: str) -> None:
    (notice,) = notices(script("odd", ANSWER % answer, env={"K": "s3cr3t"}))
    assert reason in notice
    assert "s3cr3t" not in notice
    assert len(notice) < 500


def test_what_cannot_be_used_is_told_of_and_not_started() -> None:
    told = notices([McpServer("web", url="https://host/mcp"), McpServer("empty")])
    assert told == [
        "MCP server `web` is left out: servers with a `url` cannot be used yet.",
        "MCP server `empty` is left out: it has no `command`.",
    ]


def test_a_broken_server_takes_no_other_along() -> None:
    async def use(tools: McpTools) -> None:
        assert len(await tools.specs()) == len(TOOL_NAMES)
        assert len(tools.notices()) == 2
        assert (await tools.call("test__echo", {})).text == "[]"

    using([McpServer("gone", "no-such-program"), script("brief", "pass"), server()], use)


def test_too_many_servers_are_told_of() -> None:
    told = notices([McpServer(f"s{n}", "no-such-program") for n in range(MCP_SERVERS_MAX + 1)])
    assert told[0] == f"Only the first {MCP_SERVERS_MAX} MCP servers are used."
    assert len(told) == MCP_SERVERS_MAX + 1


def test_without_the_extra_the_turn_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.client.session", None)
    assert notices([server()]) == [NOT_INSTALLED]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"a":[1]}', {"a": [1]}),
        ("{}", {}),
        ("", {}),
        (" ", {}),
        ("[]", "err: expected a JSON object"),
        ("null", "err: expected a JSON object"),
        ("{", "err: EOF while parsing an object at line 1 column 1"),
        ('"\\ud800"', None),
        ("[" * 100_000, None),
    ],
)
def test_arguments_are_an_object_or_a_reason(arguments: str, given: object) -> None:
    found = parse(arguments)
    if given is None:
        assert isinstance(found, str)
        assert found.startswith("err: ")
    else:
        assert found == given

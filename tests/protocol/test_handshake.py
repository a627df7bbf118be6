"""The first moment: `initialize`, how little is loaded for it, and what becomes of stdin and stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from echo_server import ARGV, answers_to, start

from codexdb import __version__
from codexdb.domain.limits import LINE_BYTES_MAX
from codexdb.testing.server_process import ServerProcess

PARAMS: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
WAIT_S = 20
PATHS = pytest.mark.parametrize("options", [(), ("--slow-path",)], ids=["first line", "later"])


def line(request_id: object, method: str, params: dict[str, Any] | None = None) -> bytes:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}
    return json.dumps(message).encode() + b"\n"


def initialize(server: ServerProcess, **changes: object) -> dict[str, Any]:
    params = {name: value for name, value in {**PARAMS, **changes}.items() if value is not ...}
    return server.wait_response(server.request("initialize", params))


@PATHS
def test_the_answer_tells_who_serves_what(tmp_path: Path, options: tuple[str, ...]) -> None:
    with start(tmp_path, *options) as server:
        answer = initialize(server)
        instructions = answer["result"].pop("instructions")
        assert answer == {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {
                "capabilities": {"tools": {"listChanged": True}},
                "protocolVersion": "2025-06-18",
                "serverInfo": {"name": "codexdb", "title": "codexdb", "version": __version__},
            },
        }
        assert "codex-reply" in instructions


@PATHS
@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("", "2025-11-25"),
    ],
)
def test_a_known_version_is_agreed_to_and_an_unknown_one_answered_with_the_newest(
    tmp_path: Path, options: tuple[str, ...], asked: str, agreed: str
) -> None:
    with start(tmp_path, *options) as server:
        assert initialize(server, protocolVersion=asked)["result"]["protocolVersion"] == agreed
        assert server.wait_response(server.request("agreed"))["result"]["version"] == agreed


@PATHS
@pytest.mark.parametrize(
    ("elicitation", "has_forms"),
    [(..., False), ({}, True), ({"form": {}}, True), ({"form": {}, "url": {}}, True), ({"url": {}}, False), (1, False)],
)
def test_elicitation_means_that_the_client_can_show_forms(
    tmp_path: Path, options: tuple[str, ...], elicitation: object, has_forms: bool
) -> None:
    capabilities = {} if elicitation is ... else {"elicitation": elicitation}
    with start(tmp_path, *options) as server:
        initialize(server, capabilities=capabilities)
        assert server.wait_response(server.request("agreed"))["result"]["elicitation"] is has_forms


def test_an_incomplete_initialize_is_refused_by_name_and_can_be_tried_again(tmp_path: Path) -> None:
    wrong: list[tuple[str, object, str]] = [
        ("protocolVersion", ..., "`protocolVersion`"),
        ("protocolVersion", 20250618, "`protocolVersion`"),
        ("capabilities", ..., "`capabilities`"),
        ("capabilities", [], "`capabilities`"),
        ("clientInfo", ..., "`clientInfo`"),
        ("clientInfo", "me", "`clientInfo`"),
        ("clientInfo", {"version": "1"}, "`clientInfo.name`"),
        ("clientInfo", {"name": "me", "version": 1}, "`clientInfo.version`"),
    ]
    with start(tmp_path) as server:
        for name, value, named in wrong:
            error = initialize(server, **{name: value})["error"]
            assert error["code"] == -32602
            assert named in error["message"]
        [answer] = answers_to(server, b'{"id":"none","method":"initialize"}\n')
        assert answer["error"]["code"] == -32602
        assert server.wait_response(server.request("agreed"))["result"] == {}
        assert "result" in initialize(server)


@PATHS
def test_a_second_initialize_is_refused_and_changes_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    with start(tmp_path, *options) as server:
        initialize(server)
        again = initialize(server, protocolVersion="2024-11-05")
        assert again["error"] == {"code": -32600, "message": "initialize called more than once"}
        assert server.wait_response(server.request("agreed"))["result"]["version"] == "2025-06-18"
        assert server.wait_response(server.request("echo", {"a": 1}))["result"] == {"a": 1}


def test_requests_before_initialize_are_served(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        assert server.wait_response(server.request("echo", {"a": 1}))["result"] == {"a": 1}
        assert server.wait_response(server.request("ping"))["result"] == {}
        assert server.wait_response(server.request("server/discover"))["error"]["code"] == -32601
        assert "result" in initialize(server)


def test_what_comes_with_initialize_in_one_piece_is_served_in_order(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
        many = b"".join(line(number, "ping") for number in range(2_000))
        server.send_raw(line("first", "initialize", PARAMS) + initialized + many + line("last", "ping")[:-1])
        server.close_stdin()
        assert server.wait_exit() == 0
        assert [message["id"] for message in server.messages] == ["first", *range(2_000), "last"]


def test_an_initialize_that_comes_in_pieces_is_answered_once_it_is_whole(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        whole = line("x", "initialize", PARAMS)
        for position in range(len(whole)):
            server.send_raw(whole[position : position + 1])
        assert "result" in server.wait_message(lambda message: message.get("id") == "x", "answer")
        assert server.wait_response(server.request("ping"))["result"] == {}


@pytest.mark.parametrize(
    "first",
    [
        b"\xef\xbb\xbf" + line(1, "initialize", PARAMS),
        b"\r\n\n" + line(1, "initialize", PARAMS),
        line(1, "initialize", PARAMS)[:-1] + b"\r\n",
        line(1, "initialize", {**PARAMS, "clientInfo": {"name": "\ud83d", "version": "1"}}),
        line(1, "initialize", PARAMS).replace(b"test", b"\xff"),
        line(1, "initialize", PARAMS).replace(b'"jsonrpc": "2.0", ', b""),
    ],
    ids=["BOM", "blank lines", "CRLF", "lone surrogate", "invalid UTF-8", "no version"],
)
def test_an_unusual_initialize_is_answered_like_any_other(tmp_path: Path, first: bytes) -> None:
    with start(tmp_path) as server:
        server.send_raw(first)
        assert "result" in server.wait_message(lambda message: message.get("id") == 1, "answer")
        assert server.wait_response(server.request("agreed"))["result"]["version"] == "2025-06-18"


def test_an_id_that_cannot_be_encoded_is_repaired_from_the_first_line_on(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.send_raw(line("\ud800", "initialize", PARAMS))
        assert "result" in server.wait_message(lambda message: message.get("id") == "\ufffd", "answer")


@pytest.mark.parametrize(
    ("first", "code"), [(b"nonsense\n", -32700), (b"[]\n", -32600), (b"[" * 100_000 + b"\n", -32700)]
)
def test_a_first_line_that_makes_no_sense_is_refused_and_the_server_goes_on(
    tmp_path: Path, first: bytes, code: int
) -> None:
    with start(tmp_path) as server:
        server.send_raw(first)
        assert server.wait_message(lambda _: True, "refusal")["error"]["code"] == code
        assert "result" in initialize(server)


def test_a_first_line_beyond_the_limit_is_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        for _ in range(65):
            server.send_raw(b"x" * (LINE_BYTES_MAX // 64))
        assert server.wait_message(lambda _: True, "refusal")["error"]["code"] == -32600
        server.send_raw(b"\n")
        assert "result" in initialize(server)


@pytest.mark.parametrize("data", [b"", b"\n", line(1, "initialize", PARAMS)[:-1], line(1, "initialize", PARAMS)])
def test_the_server_ends_when_its_input_ends_at_the_first_line(tmp_path: Path, data: bytes) -> None:
    with start(tmp_path) as server:
        server.send_raw(data)
        server.close_stdin()
        assert server.wait_exit() == 0
        assert len(server.messages) == (1 if data.strip() else 0)


def test_initialize_is_answered_before_anything_large_is_loaded() -> None:
    script = (
        "from codexdb.protocol.handshake import open_wire\n"
        "opening = open_wire()\n"
        "import sys\n"
        "assert opening.initialized\n"
        "print(*sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=line(1, "initialize", PARAMS),
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert json.loads(run.stdout)["id"] == 1
    loaded = {name.partition(".")[0] for name in run.stderr.decode().split()}
    large = {"asyncio", "anyio", "pydantic", "pydantic_core", "aiosqlite", "sqlalchemy", "alembic", "httpx2", "rich"}
    assert "json" in loaded
    assert not loaded & (large | {"click", "typing", "dataclasses", "pathlib", "logging", "threading", "sqlite3"})


# -- stdin and stdout --------------------------------------------------------------------------------------------------


def test_nothing_but_the_protocol_reaches_the_wire(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        initialize(server)
        server.send_raw(line("stray", "stray") + b"\n")
        assert server.wait_message(lambda message: message.get("id") == "stray", "answer")["result"] == {"read": ""}
        server.wait_response(server.request("children"))
        server.close_stdin()
        assert server.wait_exit() == 0
        assert all('"jsonrpc":"2.0"' in text for direction, text in server.lines if direction == "out")
        for stray in ("stray print", "stray write", "stray text left in a buffer", "stray child"):
            assert stray in server.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see a child's descriptors")
def test_a_child_does_not_inherit_the_wire(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        initialize(server)
        wire = {str(Path(f"/proc/{server.pid}/fd/{fd}").readlink()) for fd in (3, 4)}
        assert all(name.startswith("pipe:") for name in wire)
        inherited = server.wait_response(server.request("children"))["result"]["descriptors"]
        assert inherited
        assert not wire & set(inherited)


@pytest.mark.parametrize("source", ["file", "/dev/null"])
def test_stdin_may_be_a_file_and_stdout_too(tmp_path: Path, source: str) -> None:
    requests = tmp_path / "requests"
    requests.write_bytes(line(1, "initialize", PARAMS) + line(2, "suspend") + line(3, "echo", {"a": 1}))
    answers = tmp_path / "answers"
    with (requests if source == "file" else Path(source)).open("rb") as stdin, answers.open("wb") as stdout:
        run = subprocess.run(ARGV, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=WAIT_S, check=False)
    assert run.returncode == 0, run.stderr
    ids = [json.loads(answer)["id"] for answer in answers.read_bytes().splitlines()]
    assert ids == ([1, 3, 2] if source == "file" else [])


def test_a_closed_stdin_is_an_empty_one() -> None:
    run = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *ARGV], capture_output=True, timeout=WAIT_S, check=False)
    assert (run.returncode, run.stdout) == (0, b"")


def test_all_three_closed_descriptors_do_no_harm() -> None:
    run = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-; echo $?', "sh", *ARGV], capture_output=True, timeout=WAIT_S, check=False
    )
    assert run.stdout == b"0\n"


def test_descriptors_in_non_blocking_mode_are_waited_for() -> None:
    ours_in, theirs_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    os.set_blocking(ours_in, False)
    os.set_blocking(theirs_out, False)
    with subprocess.Popen(ARGV, stdin=ours_in, stdout=theirs_out, stderr=subprocess.PIPE) as process:
        os.close(ours_in)
        os.close(theirs_out)
        with os.fdopen(theirs_in, "wb") as requests, os.fdopen(ours_out, "rb") as answers:
            requests.write(line(1, "flood", {"count": 2_000}))
            requests.close()
            assert len(answers.read().splitlines()) == 2_001
        assert process.wait(WAIT_S) == 0
        assert process.stderr is not None

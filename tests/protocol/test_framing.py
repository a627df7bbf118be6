"""What counts as a line, what a line may contain, and what is answered to one that is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_server import answers_to, start
from hypothesis import given
from hypothesis import strategies as st

from codexdb.protocol import jsonrpc
from codexdb.protocol.stdio import LineSplitter, Overlong
from codexdb.testing.server_process import ServerProcess


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with start(tmp_path_factory.mktemp("home")) as server:
        server.initialize()
        yield server


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"not json", -32700, None),
        (b'{"jsonrpc":"2.0"', -32700, None),
        (b'{"jsonrpc":"2.0","id":41,"method":"echo","params":{', -32700, 41),
        (b'{"method":"echo","params":{"id":1,"a":[{"id":2}]},"id" : "forty-one",}', -32700, "forty-one"),
        (b'{"method":"echo","params":{"id":1},', -32700, None),
        (b'{"method":"id","text":"\\"id\\":1","a":"id"', -32700, None),
        (b'{"method":"echo","id":7,"params":{"text":"cut he', -32700, 7),
        (b'{"method":"echo","id":1.5,', -32700, None),
        (b'{"id":5,"method":"ping"} x', -32700, 5),
        (b'{"id":5,"method":"echo","params":{"a":NaN}}', -32700, 5),
        (b'{"id":5,"method":"echo","params":{"a":"tab\there"}}', -32700, 5),
        (b'{"id":5,"method":"echo","params":{"a":' + DEEP + b"1" + b"]" * len(DEEP) + b"}}", -32700, 5),
        (b'{"id":5,"method":"echo","params":{"a":' + b"9" * 5_000 + b"}}", -32700, 5),
        (b'{"id":' + b"9" * 5_000 + b',"method":"ping"}', -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b"5", -32600, None),
        (b'"ping"', -32600, None),
        (b"null", -32600, None),
        (b"{}", -32600, None),
        (b'{"jsonrpc":"2.0","id":3}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3,"params":{}}', -32600, 3),
        (b'{"id":3,"method":null}', -32600, 3),
        (b'{"id":"a","method":5,"params":[]}', -32600, "a"),
        (b'{"id":null,"method":"ping"}', -32600, None),
        (b'{"id":1.5,"method":"ping"}', -32600, 1.5),
        (b'{"id":1e999,"method":"ping"}', -32600, None),
        (b'{"id":true,"method":"ping"}', -32600, True),
        (b'{"id":[1],"method":"ping"}', -32600, None),
        (b'{"id":{"a":1},"method":"ping"}', -32600, None),
        (b'{"id":8,"method":"tools/list","params":[]}', -32602, 8),
        (b'{"id":8,"method":"echo","params":"x"}', -32602, 8),
    ],
)
def test_a_wrong_line_gets_one_error_with_the_id_that_it_carries(
    echo: ServerProcess, line: bytes, code: int, request_id: object
) -> None:
    [answer] = answers_to(echo, line + b"\n")
    assert answer["error"]["code"] == code
    assert isinstance(answer["error"]["message"], str)
    assert "id" in answer
    assert type(answer["id"]) is type(request_id)
    assert answer["id"] == request_id


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"  \t\r",
        b"\xef\xbb\xbf",
        b'{"method":"notifications/unknown"}',
        b'{"method":"notifications/initialized","params":[]}',
        b'{"method":"echo"}',
        b'{"method":"notifications/cancelled"}',
        b'{"method":"notifications/cancelled","params":{"requestId":[1]}}',
        b'{"method":"notifications/cancelled","params":{"requestId":"never seen"}}',
        b'{"id":1,"result":{}}',
        b'{"id":1,"error":{"code":1,"message":"x"}}',
        b'{"id":null,"error":{"code":-32700,"message":"x"}}',
        b'{"result":{}}',
    ],
)
def test_what_wants_no_answer_gets_none(echo: ServerProcess, line: bytes) -> None:
    assert answers_to(echo, line + b"\n") == []


@pytest.mark.parametrize(
    "request_id",
    [0, -1, 2**63, 2**70, -(2**70), "", "5", "é\u2028😀", "x" * 10_000],
    ids=lambda request_id: str(request_id)[:30],
)
def test_an_id_comes_back_as_it_was(echo: ServerProcess, request_id: int | str) -> None:
    answer = echo.wait_response(echo.request("echo", {"a": 1}, id=request_id))
    assert answer == {"jsonrpc": "2.0", "id": request_id, "result": {"a": 1}}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("CRLF", b'{"id":"CRLF","method":"echo","params":{"a":1}}\r\n'),
        ("BOM", b'\xef\xbb\xbf{"id":"BOM","method":"echo","params":{"a":1}}\n'),
        ("blank lines", b'\n\r\n{"id":"blank lines","method":"echo","params":{"a":1}}\n\n'),
        ("version 1.0", b'{"jsonrpc":"1.0","id":"version 1.0","method":"echo","params":{"a":1}}\n'),
        ("duplicate keys", b'{"id":"duplicate keys","method":"ping","method":"echo","params":{"a":2,"a":1}}\n'),
        ("unknown members", b'{"id":"unknown members","method":"echo","params":{"a":1},"result":1,"x":[]}\n'),
    ],
)
def test_harmless_variations_are_accepted(echo: ServerProcess, name: str, line: bytes) -> None:
    echo.send_raw(line)
    answer = echo.wait_message(lambda message: message.get("id") == name, name)
    assert answer["result"] == {"a": 1}


@pytest.mark.parametrize("params", [b"[]", b"5", b'"x"', b"null", b"{}"])
def test_ping_does_not_look_at_its_params(echo: ServerProcess, params: bytes) -> None:
    [answer] = answers_to(echo, b'{"id":"p","method":"ping","params":' + params + b"}\n")
    assert answer == {"jsonrpc": "2.0", "id": "p", "result": {}}


@pytest.mark.parametrize("params", [b"", b',"params":null'])
def test_params_may_be_left_out(echo: ServerProcess, params: bytes) -> None:
    before = len(echo.messages)
    echo.send_raw(b'{"id":"bare","method":"echo"' + params + b"}\n")
    answer = echo.wait_message(lambda message: message.get("id") == "bare", "answer", after=before)
    assert answer["result"] == {}


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        (b"\\ud83d\\ude00", "😀"),
        (b"cut \\ud83d", "cut \ufffd"),
        (b"\\ude00 lost", "\ufffd lost"),
        (b"\\ud83d\\ud83d\\ude00", "\ufffd😀"),
        (b"bytes \xff\xfe end", "bytes \ufffd\ufffd end"),
        (b"half \xf0\x9f\x98", "half \ufffd"),
        (b"surrogate as UTF-8 \xed\xa0\xbd", "surrogate as UTF-8 \ufffd\ufffd\ufffd"),
        ("separators \u2028\u2029\x85\x1c".encode().replace(b"\x1c", b"\\u001c"), "separators \u2028\u2029\x85\x1c"),
        (b"nul \\u0000", "nul \0"),
    ],
)
def test_text_that_cannot_be_encoded_is_repaired_and_the_server_lives_on(
    echo: ServerProcess, text: bytes, read_as: str
) -> None:
    before = len(echo.messages)
    echo.send_raw(b'{"id":"text","method":"echo","params":{"' + text + b'":["' + text + b'"]}}\n')
    answer = echo.wait_message(lambda message: message.get("id") == "text", "answer", after=before)
    assert answer["result"] == {read_as: [read_as]}


def test_a_lone_surrogate_in_an_id_is_repaired_too(echo: ServerProcess) -> None:
    [answer] = answers_to(echo, b'{"id":"\\ud800","method":"ping"}\n')
    assert answer == {"jsonrpc": "2.0", "id": "\ufffd", "result": {}}
    [answer] = answers_to(echo, b'{"id":"\\ud800","method":"ping"\n')
    assert answer["id"] == "\ufffd"


def test_nesting_deeper_than_pydantic_goes_is_read_and_written(echo: ServerProcess) -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    assert echo.wait_response(echo.request("echo", {"deep": deep}))["result"] == {"deep": deep}


def test_ten_megabytes_in_one_line_go_both_ways(echo: ServerProcess) -> None:
    text = "0123456789" * 1_000_000
    assert echo.wait_response(echo.request("echo", {"text": text}))["result"] == {"text": text}


def test_answers_are_compact_lines_with_their_members_in_the_order_of_the_original(echo: ServerProcess) -> None:
    echo.wait_response(echo.request("echo", {"b": 1, "a": None}, id="order"))
    assert ("out", '{"id":"order","jsonrpc":"2.0","result":{"b":1,"a":null}}') in echo.lines
    echo.wait_response(echo.request("nothing", id="order"))
    error = '{"code":-32601,"message":"method not found: nothing"}'
    assert ("out", f'{{"error":{error},"id":"order","jsonrpc":"2.0"}}') in echo.lines


def test_a_line_beyond_the_limit_is_refused_once_and_the_next_is_served(tmp_path: Path) -> None:
    with start(tmp_path, "--line-bytes-max", "1000") as server:
        server.initialize()
        [answer] = answers_to(server, b'{"id":6,"method":"echo","params":{"text":"' + b"x" * 300_000 + b'"}}\n')
        assert answer["id"] == 6
        assert answer["error"] == {"code": -32600, "message": "a line may have 1000 bytes at most"}
        [answer] = answers_to(server, b"x" * 1001 + b"\n")
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        [answer] = answers_to(server, b"x" * 1000 + b"\n")
        assert answer["error"]["code"] == -32700


def test_a_line_beyond_the_limit_that_never_ends_is_refused_as_soon_as_that_is_known(tmp_path: Path) -> None:
    with start(tmp_path, "--line-bytes-max", "1000") as server:
        server.initialize()
        server.send_raw(b'{"id":6,"method":"echo","params":{"text":"' + b"x" * 2_000)
        assert server.wait_message(lambda message: message.get("id") == 6, "refusal")["error"]["code"] == -32600
        server.send_raw(b"x" * 200_000)
        server.close_stdin()
        assert server.wait_exit() == 0
        assert len(server.messages) == 2


def test_the_last_line_needs_no_line_feed(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.initialize()
        server.send_raw(b'{"id":"last","method":"echo","params":{"a":1}}')
        server.close_stdin()
        assert server.wait_exit() == 0
        assert server.messages[-1] == {"jsonrpc": "2.0", "id": "last", "result": {"a": 1}}


@given(st.lists(st.text("ab\n\r", max_size=12).map(str.encode)), st.integers(1, 8))
def test_lines_do_not_depend_on_how_the_stream_was_cut(chunks: list[bytes], line_bytes_max: int) -> None:
    splitter = LineSplitter(line_bytes_max)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.finish()
    *expected, rest = b"".join(chunks).split(b"\n")
    if rest:
        expected.append(rest)
    assert len(lines) == len(expected)
    for line, whole in zip(lines, expected, strict=True):
        if isinstance(line, Overlong):
            assert len(whole) > line_bytes_max
            assert whole.startswith(line.prefix)
        else:
            assert line == whole
            assert len(whole) <= line_bytes_max


@given(st.text("ab\ud83d\ude00é"))
def test_scrubbed_text_can_be_encoded_and_keeps_everything_else(text: str) -> None:
    scrubbed = jsonrpc.scrub({"text": [text, 1, None]})
    assert json.loads(jsonrpc.result(1, {"text": text}))["result"] == {"text": jsonrpc.scrub(text)}
    assert scrubbed == {"text": [jsonrpc.scrub(text), 1, None]}
    line = json.dumps({"id": 1, "method": "m", "params": {text: text}}).encode()
    assert jsonrpc.decode(line) == jsonrpc.Request(1, "m", {str(jsonrpc.scrub(text)): jsonrpc.scrub(text)})
    assert str(jsonrpc.scrub(text)).replace("\ufffd", "").replace("😀", "") == "".join(
        character for character in text if character in "abé"
    )


@pytest.mark.parametrize("hostile", [b'"\\', b'\\"', b'{"id', b'"', b"[", b'{"a":'])
@pytest.mark.timeout(10)
def test_looking_for_the_id_of_a_broken_line_takes_bounded_time(hostile: bytes) -> None:
    assert jsonrpc.recover_id(hostile * 1_000_000) is None

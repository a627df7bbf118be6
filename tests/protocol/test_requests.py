"""Requests: each answered once, cancelled ones never, and what happens at the end of input and to a deaf client."""

import json
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from echo_server import ARGV, answers_to, start

from codexdb.domain.limits import OUTPUT_QUEUE_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX
from codexdb.testing.server_process import ServerProcess

WAIT_S = 20


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with start(tmp_path_factory.mktemp("home")) as server:
        server.initialize()
        yield server


def call(server: ServerProcess, method: str, params: object = None) -> dict[str, Any]:
    return server.wait_response(server.request(method, params))


def line(request_id: object, method: str, params: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}).encode() + b"\n"


# -- answers -----------------------------------------------------------------------------------------------------------


def test_requests_overtake_one_that_waits(echo: ServerProcess) -> None:
    slow = echo.request("slow", {"until": "overtaken"})
    assert call(echo, "echo", {"a": 1})["result"] == {"a": 1}
    call(echo, "release", {"name": "overtaken"})
    assert echo.wait_response(slow)["result"] == {"released": "overtaken"}


@pytest.mark.parametrize(
    "method",
    [
        "server/discover",
        "resources/list",
        "prompts/list",
        "logging/setLevel",
        "completion/complete",
        "",
        "tools/nothing",
    ],
)
def test_an_unknown_method_is_refused_at_once(echo: ServerProcess, method: str) -> None:
    [answer] = answers_to(echo, line("unknown", method))
    assert (answer["id"], answer["error"]["code"]) == ("unknown", -32601)


def test_an_unknown_method_is_not_sent_back_at_length(echo: ServerProcess) -> None:
    [answer] = answers_to(echo, line("long", "x" * 100_000))
    assert len(json.dumps(answer)) < 300


def test_an_unexpected_exception_tells_the_client_nothing_and_the_log_everything(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        assert call(server, "boom", {"secret": "hunter2"})["error"] == {"code": -32603, "message": "internal error"}
        assert call(server, "echo", {"a": 1})["result"] == {"a": 1}
        server.close_stdin()
        assert server.wait_exit() == 0
        assert "RuntimeError: the secret is hunter2" in server.stderr
        assert not any("hunter2" in text for direction, text in server.lines if direction == "out")


def test_an_error_meant_for_the_client_arrives_as_it_is(echo: ServerProcess) -> None:
    error = call(echo, "refuse", {"a": 1})["error"]
    assert error == {"code": -32099, "message": "not today", "data": {"kind": "refused", "asked": {"a": 1}}}


def test_a_result_that_is_not_json_becomes_an_internal_error_and_is_followed_up_all_the_same(
    echo: ServerProcess,
) -> None:
    before = len(echo.messages)
    assert call(echo, "unwritable", {"kind": "object"})["error"] == {"code": -32603, "message": "internal error"}
    call(echo, "ping")
    assert echo.messages[before + 1] == {"jsonrpc": "2.0", "method": "followed", "params": {}}


def test_what_json_cannot_say_is_replaced(echo: ServerProcess) -> None:
    assert call(echo, "unwritable", {"kind": "number"})["result"] == {"a": None}
    assert call(echo, "unwritable", {"kind": "surrogate"})["result"] == {"a": "cut \ufffd"}


def test_an_error_that_cannot_be_written_becomes_an_internal_error(echo: ServerProcess) -> None:
    assert call(echo, "unwritable", {"kind": "error"})["error"] == {"code": -32603, "message": "internal error"}


def test_a_handler_whose_own_task_was_cancelled_harms_nobody_else(echo: ServerProcess) -> None:
    slow = echo.request("slow", {"until": "unharmed"})
    assert call(echo, "misawait")["error"] == {"code": -32603, "message": "internal error"}
    call(echo, "release", {"name": "unharmed"})
    assert "result" in echo.wait_response(slow)


def test_notifications_of_a_call_come_in_order_before_its_result(echo: ServerProcess) -> None:
    before = len(echo.messages)
    call(echo, "flood", {"count": 3_000})
    *notes, result = echo.messages[before:]
    assert [note["params"]["number"] for note in notes] == list(range(3_000))
    assert result["result"] == {"sent": 3_000}


def test_what_follows_a_result_comes_before_anything_else(echo: ServerProcess) -> None:
    before = len(echo.messages)
    flood = echo.request("flood", {"count": 1_000})
    ids = [echo.request("followed") for _ in range(50)]
    echo.wait_response(flood)
    for request_id in ids:
        echo.wait_response(request_id)
    call(echo, "ping")
    received = echo.messages[before:]
    for request_id in ids:
        answered = next(index for index, message in enumerate(received) if message.get("id") == request_id)
        assert received[answered + 1]["method"] == "followed"
        assert received[answered + 1]["params"] == {"id": request_id}


# -- ids and bounds ----------------------------------------------------------------------------------------------------


def test_an_id_in_flight_is_refused_and_free_again_after_its_answer(echo: ServerProcess) -> None:
    echo.request("slow", {"until": "duplicate"}, id="d")
    [answer] = answers_to(echo, line("d", "ping"))
    assert (answer["id"], answer["error"]["code"]) == ("d", -32600)
    call(echo, "release", {"name": "duplicate"})
    echo.wait_message(lambda message: message.get("result") == {"released": "duplicate"}, "the first call's answer")
    assert answers_to(echo, line("d", "ping")) == [{"jsonrpc": "2.0", "id": "d", "result": {}}]


def test_a_number_and_its_text_are_two_ids(echo: ServerProcess) -> None:
    echo.request("slow", {"until": "number"}, id=77_777)
    echo.request("slow", {"until": "text"}, id="77777")
    call(echo, "release", {"name": "text"})
    assert echo.wait_response("77777")["result"] == {"released": "text"}
    call(echo, "release", {"name": "number"})
    assert echo.wait_response(77_777)["result"] == {"released": "number"}


def test_requests_beyond_the_bound_are_refused_and_the_others_kept(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        waiting = [line(f"w{number}", "slow", {"until": "bound"}) for number in range(REQUESTS_IN_FLIGHT_MAX)]
        server.send_raw(b"".join(waiting))
        [answer] = answers_to(server, line("too many", "release", {"name": "bound"}))
        assert answer["error"]["code"] == -32000
        assert answer["error"]["data"] == {"kind": "too_many_requests", "retryable": True}
        server.notify("notifications/cancelled", {"requestId": "w0"})
        call(server, "ping")
        assert call(server, "release", {"name": "bound"})["result"] == {}
        for number in range(1, REQUESTS_IN_FLIGHT_MAX):
            assert "result" in server.wait_response(f"w{number}")


def test_any_number_of_quick_requests_may_be_sent_at_once(echo: ServerProcess) -> None:
    before = len(echo.messages)
    count = 5 * REQUESTS_IN_FLIGHT_MAX
    echo.send_raw(b"".join(line(f"q{number}", "echo") for number in range(count)))
    echo.wait_message(lambda message: message.get("id") == f"q{count - 1}", "the last answer", after=before)
    assert [message["id"] for message in echo.messages[before:] if "result" in message] == [
        f"q{number}" for number in range(count)
    ]


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_a_cancelled_request_ends_without_an_answer_and_its_handler_knows_why(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.request("slow", {"until": "never"}, id="c1")
        server.request("slow", {"until": "never"}, id=2)
        server.request("slow", {"until": "now"}, id="2")
        call(server, "ping")
        server.notify("notifications/cancelled", {"requestId": "c1", "reason": "timed out"})
        server.notify("notifications/cancelled", {"requestId": 2, "reason": 5})
        server.notify("notifications/cancelled", {"requestId": 2.0})
        call(server, "ping")
        assert call(server, "reasons_so_far")["result"] == {"reasons": ["timed out", ""]}
        call(server, "release", {"name": "now"})
        assert "result" in server.wait_response("2")
        server.close_stdin()
        assert server.wait_exit() == 0
        ids = [message["id"] for message in server.messages]
        assert "c1" not in ids
        assert 2 not in ids


def test_only_the_very_same_id_cancels(echo: ServerProcess) -> None:
    slow = echo.request("slow", {"until": "same id"}, id=1_000_000)
    for other in ("1000000", 1e6, None, [1_000_000], {"id": 1_000_000}):
        cancel = {"method": "notifications/cancelled", "params": {"requestId": other}}
        ping = f"with {other}"  # in one piece with it, so that neither may harm the other
        echo.send_raw(json.dumps(cancel).encode() + b"\n" + line(ping, "ping"))
        echo.wait_response(ping)
    call(echo, "release", {"name": "same id"})
    assert echo.wait_response(slow)["result"] == {"released": "same id"}


def test_a_request_cancelled_before_it_began_is_never_begun(tmp_path: Path) -> None:
    cancel = b'{"method":"notifications/cancelled","params":{"requestId":"early"}}\n'
    with start(tmp_path) as server:
        server.request("ping")
        server.send_raw(line("early", "touch", {"path": str(tmp_path / "begun")}) + cancel)
        call(server, "echo")
        server.close_stdin()
        assert server.wait_exit() == 0
        assert not (tmp_path / "begun").exists()
        assert "early" not in [message["id"] for message in server.messages]


def test_a_cancelled_id_can_be_used_again_at_once(echo: ServerProcess) -> None:
    echo.request("slow", {"until": "never"}, id="reused")
    call(echo, "ping")
    before = len(echo.messages)
    cancel = b'{"method":"notifications/cancelled","params":{"requestId":"reused"}}\n'
    echo.send_raw(cancel + line("reused", "echo", {"second": True}))
    echo.wait_message(lambda message: message.get("id") == "reused", "the second answer", after=before)
    call(echo, "ping")
    answers = [message for message in echo.messages[before:] if message.get("id") == "reused"]
    assert [answer["result"] for answer in answers] == [{"second": True}]


def test_initialize_and_finished_requests_cannot_be_cancelled(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.initialize()
        done = server.request("echo")
        server.wait_response(done)
        for request_id in (0, done, None, "never seen"):
            server.notify("notifications/cancelled", {"requestId": request_id})
        assert call(server, "echo", {"a": 1})["result"] == {"a": 1}


# -- questions to the client -------------------------------------------------------------------------------------------


def test_a_question_is_answered_under_its_number_or_the_text_of_it(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        first = server.request("ask", {"message": "one?"})
        question = server.wait_request("elicitation/create")
        assert question == {"jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": {"message": "one?"}}
        second = server.request("ask", {"message": "two?"})
        server.wait_message(lambda message: message.get("id") == 1 and "method" in message, "the second question")
        server.respond("1", {"action": "accept"})
        assert server.wait_response(second)["result"] == {"answer": {"action": "accept"}}
        server.respond("9" * 5_000, {"action": "nobody asked"})
        server.respond(1, {"action": "too late"})
        server.respond(0, {"decision": "approved"})
        assert server.wait_response(first)["result"] == {"answer": {"decision": "approved"}}


@pytest.mark.parametrize("answer", [{"error": {"code": -32601, "message": "no"}}, {"result": "yes"}, {"result": None}])
def test_a_question_answered_with_an_error_or_nonsense_failed(tmp_path: Path, answer: dict[str, Any]) -> None:
    with start(tmp_path) as server:
        asked = server.request("ask", {})
        server.wait_request("elicitation/create")
        server.send_raw(json.dumps({"id": 0, **answer}).encode() + b"\n")
        assert server.wait_response(asked)["result"] == {"failed": "the client answered with an error"}


def test_a_question_nobody_waits_for_any_more_is_cancelled(tmp_path: Path) -> None:
    withdrawn = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}}
    with start(tmp_path) as server:
        server.request("ask", {}, id="a")
        server.wait_request("elicitation/create")
        server.notify("notifications/cancelled", {"requestId": "a"})
        server.wait_message(lambda message: message == withdrawn, "the withdrawal")
        server.respond(0, {"action": "accept"})
        briefly = call(server, "ask_briefly")
        assert briefly["result"] == {"answer": None}
        assert server.messages[-2]["params"] == {"requestId": 1}


def test_a_question_fails_when_the_client_goes_away(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        asked = server.request("ask", {})
        server.wait_request("elicitation/create")
        server.close_stdin()
        assert server.wait_response(asked)["result"] == {"failed": "the client is gone"}
        assert server.wait_exit() == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_without_work_the_end_of_input_is_the_end(tmp_path: Path) -> None:
    with start(tmp_path, "--eof-grace-ms", "60000") as server:
        server.initialize()
        server.close_stdin()
        assert server.wait_exit() == 0


def test_at_the_end_of_input_calls_may_finish_in_their_own_way(tmp_path: Path) -> None:
    with start(tmp_path, "--eof-grace-ms", "60000") as server:
        suspended = server.request("suspend")
        call(server, "ping")
        server.close_stdin()
        assert server.wait_response(suspended)["result"] == {"kind": "suspended"}
        assert server.wait_exit() == 0


def test_calls_that_do_not_end_in_their_grace_are_answered_for(tmp_path: Path) -> None:
    with start(tmp_path, "--eof-grace-ms", "50") as server:
        ids = [server.request("slow", {"until": "never"}) for _ in range(3)]
        server.close_stdin()
        for request_id in ids:
            error = server.wait_response(request_id)["error"]
            assert error["code"] == -32000
            assert error["data"] == {"kind": "shutting_down", "retryable": True}
        assert server.wait_exit() == 0


def test_stopped_from_inside_it_answers_what_is_in_flight_and_refuses_what_comes_then(tmp_path: Path) -> None:
    with start(tmp_path, "--eof-grace-ms", "500") as server:
        suspended = server.request("suspend")
        slow = server.request("slow", {"until": "never"})
        stopped = server.request("stop")
        assert server.wait_response(stopped)["result"] == {"stopped": True}
        late = server.request("echo")
        assert server.wait_response(suspended)["result"] == {"kind": "suspended"}
        assert server.wait_response(late)["error"]["data"]["kind"] == "shutting_down"
        assert server.wait_response(slow)["error"]["data"]["kind"] == "shutting_down"
        assert server.wait_exit() == 0  # its input is still open


class DeafClient:
    """Starts a server and reads nothing of what it says until the server has ended."""

    def __init__(self) -> None:
        self._output, theirs = os.pipe()
        self._process = subprocess.Popen(
            [*ARGV, "--eof-grace-ms", "100"], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE
        )
        os.close(theirs)
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        os.set_blocking(self._stdin.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._stdin.close()
        os.close(self._output)

    def send(self, data: bytes, patience_s: float = WAIT_S) -> int:
        """Write until all is written, or the server takes nothing for so long. How much that was."""
        view = memoryview(data)
        while view and select.select([], [self._stdin], [], patience_s)[1]:
            view = view[os.write(self._stdin.fileno(), view) :]
        return len(data) - len(view)

    def end(self) -> tuple[int, int, list[bytes]]:
        """Close the server's input. Its exit code, its peak memory in MiB and the lines it could still write."""
        self._stdin.close()
        self._process.stdin = None
        _, stderr = self._process.communicate(timeout=WAIT_S)
        os.set_blocking(self._output, False)
        lines = os.read(self._output, 1024 * 1024).splitlines()
        return self._process.returncode, int(stderr.decode().rpartition("peak ")[2].split()[0]) // 1024, lines


MEMORY_MIB_MAX = 45 + 4 * OUTPUT_QUEUE_BYTES_MAX // (1024 * 1024)  # an idle server, and what it may hold back


def test_a_client_that_stops_reading_holds_back_its_events_and_not_its_other_requests(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "signal")
    signal = os.open(tmp_path / "signal", os.O_RDONLY | os.O_NONBLOCK)
    with DeafClient() as client:
        for number in range(3):
            client.send(line(number, "flood", {"count": 20_000, "size": 10_000}))
        client.send(line("touch", "touch", {"path": str(tmp_path / "signal")}))
        assert select.select([signal], [], [], WAIT_S)[0], "the last request was not read"
        code, peak_mib, lines = client.end()
    os.close(signal)
    assert code == 0
    assert peak_mib < MEMORY_MIB_MAX
    assert json.loads(lines[0])["method"] == "note"


def test_a_client_that_sends_and_never_reads_is_not_read_without_end() -> None:
    requests = b"".join(line(number, "echo", {"text": "x" * 10_000}) for number in range(10_000))
    with DeafClient() as client:
        assert client.send(requests, patience_s=0.5) < len(requests)
        code, peak_mib, lines = client.end()
    assert code == 0
    assert peak_mib < MEMORY_MIB_MAX
    assert json.loads(lines[0])["id"] == 0


def test_a_client_that_closes_the_servers_output_ends_it() -> None:
    with subprocess.Popen(ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line(1, "echo"))
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(line(2, "echo"))
        process.stdin.flush()
        assert process.wait(WAIT_S) == 0  # its input is still open

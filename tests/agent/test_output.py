"""What is kept of a command's output."""

import anyio
import pytest

from codexdb.agent.tools.output import DELTA_INTERVAL_MS, NOTE_BYTES_MAX, Capture, Deltas
from codexdb.domain import limits

MODEL_MAX = limits.TOOL_OUTPUT_BYTES_MAX


def captured(*chunks: bytes | tuple[str, bytes]) -> Capture:
    capture = Capture()
    for chunk in chunks:
        stream, data = chunk if isinstance(chunk, tuple) else ("stdout", chunk)
        capture.add(stream, data)
    capture.finish()
    return capture


def test_short_output_is_kept_whole_and_in_the_order_it_came() -> None:
    capture = captured(("stdout", b"a\n"), ("stderr", b"b\n"), ("stdout", b"c\n"))
    assert capture.text(MODEL_MAX) == "a\nb\nc\n"
    assert dict(capture.firsts) == {"stdout": "a\nc\n", "stderr": "b\n"}


def test_output_of_exactly_the_limit_is_kept_whole_and_one_byte_more_is_cut() -> None:
    assert captured(b"x" * MODEL_MAX).text(MODEL_MAX) == "x" * MODEL_MAX
    assert "left out" in captured(b"x" * (MODEL_MAX + 1)).text(MODEL_MAX)


def test_long_output_keeps_whole_lines_of_both_ends_and_counts_the_rest() -> None:
    lines = [f"line {number}\n" for number in range(100_000)]
    text = captured("".join(lines).encode()).text(MODEL_MAX)
    assert len(text.encode()) <= MODEL_MAX
    head, note, tail = text.partition("[... ")
    note, _, tail = tail.partition(" left out here ...]\n")
    kept = head.splitlines(keepends=True) + tail.splitlines(keepends=True)
    assert lines[: head.count("\n")] + lines[-tail.count("\n") :] == kept
    omitted = lines[head.count("\n") : -tail.count("\n")]
    assert note == f"{len(omitted)} lines, {len(''.join(omitted))} bytes"
    assert len(head) > MODEL_MAX // 3
    assert len(tail) > MODEL_MAX // 3


def test_one_line_of_200_kilobytes_is_cut_in_its_middle() -> None:
    text = captured(b"<" + b"x" * 200_000 + b">").text(MODEL_MAX)
    assert len(text.encode()) <= MODEL_MAX
    assert text.startswith("<xxx")
    assert text.endswith("xxx>")
    kept = text.count("x")
    assert f"\n[... {200_000 - kept} bytes of one line left out here ...]\n" in text


def test_short_lines_around_a_huge_one_survive() -> None:
    text = captured(b"first\n" + b"x" * 200_000 + b"\nlast\n").text(MODEL_MAX)
    assert text.startswith("first\nxxx")
    assert text.endswith("xxx\nlast\n")


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("bytes_max", range(MODEL_MAX, MODEL_MAX + 4))
def test_a_cut_never_splits_a_character(shift: int, bytes_max: int) -> None:
    text = captured(b"a" * shift + "\U0001f600".encode() * 10_000).text(bytes_max)
    assert set(text.replace("\U0001f600", "")) <= set("\n[.bytes of one line left out here 0123456789]a")
    assert len(text.encode()) <= bytes_max


def test_characters_split_between_chunks_are_put_together_for_each_stream() -> None:
    euro = "€".encode()
    capture = captured(("stdout", euro[:1]), ("stderr", euro[:2]), ("stdout", euro[1:]), ("stderr", euro[2:]))
    assert capture.text(MODEL_MAX) == "€€"


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert captured(b"a\xff\xfeb\x00", b"\xe2\x82").text(MODEL_MAX) == "a��b\x00�"


def test_the_note_keeps_within_the_limit_however_little_that_is() -> None:
    capture = captured(*[b"some line\n" * 100_000] * 100)
    for bytes_max in (NOTE_BYTES_MAX, NOTE_BYTES_MAX + 1, 200, limits.TOOL_OUTPUT_STORED_BYTES_MAX):
        assert len(capture.text(bytes_max).encode()) <= bytes_max


@pytest.mark.parametrize("size", [500_000, 524_288, 530_000, 1_048_576, 1_048_577, 1_600_000, 5_000_000])
@pytest.mark.parametrize("chunk", [8_192, 65_536, 5_000_000])
def test_both_ends_are_right_whatever_the_sizes(size: int, chunk: int) -> None:
    data = b"".join(b"%07d\n" % number for number in range(size // 8))
    capture = captured(*(data[at : at + chunk] for at in range(0, len(data), chunk)))
    for bytes_max in (MODEL_MAX, limits.TOOL_OUTPUT_STORED_BYTES_MAX):
        text = capture.text(bytes_max).encode()
        if len(data) <= bytes_max:
            assert text == data
            continue
        head, _, rest = text.partition(b"[...")
        tail = rest.partition(b"...]\n")[2]
        assert data.startswith(head)
        assert data.endswith(tail)
        assert len(head) + len(tail) > bytes_max - NOTE_BYTES_MAX - 20


def test_events_get_the_first_characters_of_each_stream() -> None:
    capture = captured(("stdout", "ä".encode() * 9_000), ("stderr", b"e" * 9_000))
    assert capture.firsts["stdout"] == "ä" * limits.EXEC_EVENT_STREAM_CHARS_MAX
    assert capture.firsts["stderr"] == "e" * limits.EXEC_EVENT_STREAM_CHARS_MAX


def test_deltas_are_of_full_size_and_end_at_the_cap() -> None:
    sent: list[bytes] = []
    deltas = Deltas(lambda _, chunk: sent.append(chunk))
    for _ in range(40):
        deltas.add("stdout", b"x" * 65_537)
    deltas.flush()
    assert {len(chunk) for chunk in sent[:-1]} == {limits.OUTPUT_DELTA_BYTES_MAX}
    assert sum(map(len, sent)) == limits.OUTPUT_STREAMED_BYTES_MAX


def test_a_small_delta_goes_out_in_time_and_those_after_it_are_gathered() -> None:
    async def main() -> list[tuple[str, bytes]]:
        sent: list[tuple[str, bytes]] = []
        times: list[float] = []
        came = [anyio.Event(), anyio.Event()]

        def send(stream: str, chunk: bytes) -> None:
            sent.append((stream, chunk))
            times.append(anyio.current_time())
            came[len(sent) - 1].set()

        deltas = Deltas(send)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(deltas.run)
                deltas.add("stdout", b"a")
                await came[0].wait()
                for _ in range(20):
                    deltas.add("stderr", b"b")
                await came[1].wait()
                group.cancel_scope.cancel()
        assert times[1] - times[0] > 0.9 * DELTA_INTERVAL_MS / 1000
        return sent

    assert anyio.run(main) == [("stdout", b"a"), ("stderr", b"b" * 20)]

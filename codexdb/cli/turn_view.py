"""How a running turn is shown: to people as it comes, to programs one committed event per line."""

import codecs
from collections.abc import Sequence
from typing import Protocol, cast

import click

from codexdb.cli import screen
from codexdb.cli.wording import command_line
from codexdb.domain.event import CommittedEvent, Delta
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.store.pages import SessionRow, TurnRow

_NEXT = {
    "busy": "Wait until its turn has ended, then send the message again.",
    "credentials_missing": "Set it in the environment of this command, then send the message again.",
    "internal": "Please report it, with what stands above.",
    "invalid_config": "Correct the option, or config.toml in $CODEX_HOME (~/.codex unless set).",
    "model_error": "Check the provider's base_url, key and model in config.toml; the session is kept and can go on.",
    "session_not_found": f"List them with: {screen.program()} sessions list",
    "store_busy": "Nothing was written. Try again when the other process is done.",
    "store_failed": "Look for free space and permissions where the database is, then try again.",
}


class TurnView(Protocol):
    """Told everything about a turn, in order."""

    def note(self, text: str) -> None:
        """Something the caller should know beforehand."""
        ...

    def began(self, session: SessionRow | None) -> None: ...
    def delta(self, delta: Delta) -> None: ...
    def event(self, event: CommittedEvent) -> None: ...
    def ended(self, session_id: str, turn: TurnRow | None) -> None: ...

    def failed(self, kind: str, message: str) -> None:
        """There was no turn to show, or it cannot be shown to its end."""
        ...


def _tell_failure(kind: str, message: str) -> None:
    screen.write(f"codexdb: {screen.harmless(message).strip()}\n", err=True)
    if kind in _NEXT:
        screen.write(f"{_NEXT[kind]}\n", err=True)


class JsonLines:
    """Committed events on stdout, one line each; what concerns people goes to stderr."""

    def note(self, text: str) -> None:
        screen.write(f"codexdb: {text}\n", err=True)

    def began(self, session: SessionRow | None) -> None: ...

    def delta(self, delta: Delta) -> None: ...

    def event(self, event: CommittedEvent) -> None:
        head = encode({"session_id": event.session_id, "turn_id": event.turn_id, "seq": event.seq})
        screen.write(f'{head[:-1]},"msg":{event.msg}}}\n')

    def ended(self, session_id: str, turn: TurnRow | None) -> None:  # noqa: ARG002 - what a view is told
        if turn is not None and turn.error_message is not None:
            _tell_failure(turn.error_kind or "", turn.error_message)

    def failed(self, kind: str, message: str) -> None:
        _tell_failure(kind, message)


class Screen:
    """The model's words go to stdout if that is a terminal. If it is not, they go to stderr with everything else, and
    stdout gets the answer alone.
    """

    def __init__(self) -> None:
        self._pipes_answer = not screen.is_terminal()
        self._streamed = ""  # of the message that is still coming
        self._line_open = False
        self._decoders: dict[tuple[str, str], codecs.IncrementalDecoder] = {}
        self._tokens = 0

    def note(self, text: str) -> None:
        self._say(text, dim=True)

    def began(self, session: SessionRow | None) -> None:
        if session is not None:
            self._say(f"session {session.session_id} · {session.model} · {session.cwd}", dim=True)

    def delta(self, delta: Delta) -> None:
        msg = delta.msg
        if msg["type"] == "agent_message_delta":
            self._streamed += str(msg["delta"])
            self._talk(str(msg["delta"]))
        elif msg["type"] == "exec_command_output_delta":
            self._output(str(msg["call_id"]), str(msg["stream"]), bytes(cast("list[int]", msg["chunk"])))

    def event(self, event: CommittedEvent) -> None:
        msg = decode_object(event.msg)
        match event.type:
            case "agent_message":
                self._message(str(msg["message"]))
            case "agent_reasoning":
                self._say(str(msg["text"]), dim=True)
            case "background_event":
                self._streamed = ""  # an answer that broke off is asked for again from its beginning
                self._say(str(msg["message"]), dim=True)
            case "exec_command_begin":
                self._say(f"$ {command_line(cast('Sequence[str]', msg['command']))}")
            case "exec_command_end":
                self._say(f"exit {msg['exit_code']} in {_seconds(cast('JsonObject', msg['duration']))}", dim=True)
            case "token_count":
                self._tokens += cast("int", msg["total_tokens"])
            case "task_complete" if self._pipes_answer:
                screen.write(f"{msg['last_agent_message'] or ''}\n")
            case _:
                pass

    def ended(self, session_id: str, turn: TurnRow | None) -> None:
        self._close_line()
        if turn is None:
            return
        if turn.error_message is not None:
            _tell_failure(turn.error_kind or "", turn.error_message)
        spent = f" in {((turn.ended_at_ms or turn.created_at_ms) - turn.created_at_ms) / 1000:.1f} s"
        tokens = f", {self._tokens:,} tokens" if self._tokens else ""
        self._say(f"{turn.state}{spent}{tokens}. Go on: {screen.program()} exec --session {session_id} …", dim=True)

    def failed(self, kind: str, message: str) -> None:
        self._close_line()
        _tell_failure(kind, message)

    def _message(self, text: str) -> None:
        """The whole of what was streamed; said again only where the pieces were others."""
        if self._streamed != text:
            self._close_line()
            self._talk(text)
        self._close_line()
        self._streamed = ""

    def _output(self, call_id: str, stream: str, chunk: bytes) -> None:
        decoder = self._decoders.get((call_id, stream))
        if decoder is None:
            decoder = self._decoders[call_id, stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self._write(decoder.decode(chunk), err=True, dim=True)

    def _talk(self, text: str) -> None:
        self._write(text, err=self._pipes_answer)

    def _say(self, text: str, *, dim: bool = False) -> None:
        self._close_line()
        self._write(f"{text}\n", err=True, dim=dim)

    def _close_line(self) -> None:
        if self._line_open:
            self._write("\n", err=self._pipes_answer)

    def _write(self, text: str, *, err: bool, dim: bool = False) -> None:
        shown = screen.harmless(text)
        if shown:
            screen.write(click.style(shown, dim=True) if dim else shown, err=err)
            self._line_open = not shown.endswith("\n")


def _seconds(duration: JsonObject) -> str:
    return f"{cast('int', duration['secs']) + cast('int', duration['nanos']) / 1e9:.2f} s"

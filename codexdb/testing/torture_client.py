"""A client under torture: sends messages, repeats what was not answered, and reads on where it stopped."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from codexdb.testing.server_process import Message, RequestId, ServerProcess, ServerProcessError
from codexdb.testing.torture_script import prompt, some_work

ANSWER_S = 40.0  # of one call: a turn of half a second that was rescued three times is far below it
SESSION_MESSAGES = 10  # then a client opens another, so that histories stay short
SHARED_SESSIONS = 6  # the newest, in which clients meet
PAGE = 200

REFUSALS = frozenset({"busy", "queue_full"})
PASSING = frozenset({"store_busy", "shutting_down"})

SeenEvent = tuple[int, Message]


class Fleet(Protocol):
    """What a client knows of the servers."""

    def pick(self, rng: Random) -> ServerProcess | None:
        """Any server that takes calls; waits for one a little while."""
        ...

    def alive(self, server: ServerProcess) -> bool:
        """Whether nobody has set out to kill it."""
        ...

    def sent(self, server: ServerProcess, request_id: RequestId, tool: str) -> None:
        """A message is on its way, and not answered yet."""
        ...


@dataclass(slots=True)
class Sent:
    """One message as its sender knows it."""

    name: str  # also its message_id
    tool: str
    prompt: str
    session_id: str | None  # None: it opens one
    if_running: str
    tries: int = 0
    acknowledged: str | None = None  # the outcome it was told
    refused: str | None = None
    text: str | None = None  # the result of its turn
    kinds: list[str] = field(default_factory=list[str])  # of errors that came instead of the result

    def arguments(self) -> Message:
        named: Message = {"message_id": self.name}
        if self.tool == "codex":
            provider = "scripted" if speaks_responses(self.name) else "chatty"
            return {"prompt": self.prompt, "config": {"model_provider": provider}, **named}
        named["if_running"] = self.if_running
        if self.tool == "codex-reply":
            return {"prompt": self.prompt, "threadId": self.session_id, **named}
        return {"content": [{"type": "text", "text": self.prompt}], "conversation_id": self.session_id, **named}


def speaks_responses(name: str) -> bool:
    """Half of the names, and the same ones in every run."""
    return sum(name.encode()) % 2 == 0


class Client(threading.Thread):
    """Works until `leave` is called and its message is settled, or until `closed` ends everything."""

    def __init__(self, name: str, seed: str, fleet: Fleet, shared: list[str], closed: Callable[[], bool]) -> None:
        super().__init__(name=name, daemon=True)
        self._rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self._fleet = fleet
        self._shared = shared
        self._closed = closed
        self._leaving = threading.Event()
        self._own: str | None = None
        self._own_messages = 0
        self.messages: list[Sent] = []
        self.seen: dict[str, list[SeenEvent]] = {}
        self.problems: list[str] = []
        self.answers: Counter[str] = Counter()

    def leave(self) -> None:
        self._leaving.set()

    def run(self) -> None:
        while not self._leaving.is_set() and not self._closed():
            sent = self._next()
            self.messages.append(sent)
            self._deliver(sent)
            for session_id in {self._own, sent.session_id} - {None}:
                self.read_on(str(session_id))
            self._leaving.wait(self._rng.uniform(0, 0.06))

    def _next(self) -> Sent:
        name = f"{self.name}-{len(self.messages) + 1}"
        text = prompt(some_work(self._rng, name))
        if self._own is None or self._own_messages >= SESSION_MESSAGES:
            self._own, self._own_messages = None, 0
            return Sent(name, "codex", text, None, "reject")
        elsewhere = self._rng.random() < 0.35
        target = self._rng.choice(self._shared[-SHARED_SESSIONS:]) if elsewhere else self._own
        self._own_messages += 1
        tool = self._rng.choice(("codex-reply", "send-user-message", "send-user-message"))
        return Sent(name, tool, text, target, self._rng.choice(("reject", "queue", "queue", "steer", "steer")))

    # -- sending -------------------------------------------------------------------------------------------------------

    def _deliver(self, sent: Sent) -> None:
        """Repeat the message, from whatever server, until one says what became of it."""
        while not self._closed():
            server = self._fleet.pick(self._rng)
            if server is None:
                continue
            sent.tries += 1
            response = self._call(server, sent.tool, sent.arguments())
            if response is not None and self._settled(sent, response):
                return

    def _call(self, server: ServerProcess, tool: str, arguments: Message) -> Message | None:
        """The answer, or None where the server died first. No answer from a living one is a broken promise."""
        try:
            request_id = server.start_tool(tool, arguments)
            if tool != "conversation_read":
                self._fleet.sent(server, request_id, tool)
            return server.wait_response(request_id, ANSWER_S)
        except ValueError:  # it was killed before the message was on its way, and its input is closed
            return None
        except ServerProcessError as error:
            if self._fleet.alive(server) and not self._closed():
                self.problems.append(f"{tool} was not answered by a living server: {error}"[:2000])
            return None

    def _settled(self, sent: Sent, response: Message) -> bool:
        result: Message | None = response.get("result")
        if result is None:
            self.problems.append(f"{sent.name}: {sent.tool} was answered with {response.get('error')}")
            return False
        structured: Message = result.get("structuredContent") or {}
        kind = structured.get("kind")
        self.answers[str(kind or structured.get("outcome") or "result")] += 1
        if kind in PASSING:
            return False
        if kind in REFUSALS:
            sent.refused = kind
            return True
        if kind is not None and "turn_id" not in structured:
            self.problems.append(f"{sent.name}: {sent.tool} was refused: {structured}")
            sent.refused = kind
            return True
        return self._accepted(sent, structured, kind)

    def _accepted(self, sent: Sent, structured: Message, kind: str | None) -> bool:
        if sent.tool == "codex" and sent.session_id is None:
            sent.session_id = self._own = structured["threadId"]
            self._shared.append(structured["threadId"])
        if kind is not None:
            sent.kinds.append(kind)
            sent.acknowledged = sent.acknowledged or kind
            return kind != "suspended"  # asked again: the repeat joins the turn, wherever it goes on
        sent.acknowledged = structured.get("outcome") or "result"
        sent.text = structured.get("content")
        return True

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_on(self, session_id: str, *, to_the_end: bool = False) -> None:
        """Read what is new, from whatever server; `to_the_end`: until nothing is."""
        seen = self.seen.setdefault(session_id, [])
        while not self._closed():
            server = self._fleet.pick(self._rng)
            if server is None:
                continue
            after = seen[-1][0] if seen else 0
            arguments = {"conversation_id": session_id, "after_seq": after, "limit": PAGE}
            response = self._call(server, "conversation_read", arguments)
            result: Message = (response or {}).get("result") or {}
            if result.get("isError", True):
                if not to_the_end:
                    return
                continue
            page: Message = result["structuredContent"]
            seen += [(event["seq"], event["msg"]) for event in page["events"]]
            if not page["more"]:
                return

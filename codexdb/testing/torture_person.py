"""The person under torture: answers what the servers ask, as the name of the call says, by form or by tool."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from codexdb.testing.server_process import Message, ServerProcess, ServerProcessError
from codexdb.testing.torture_script import Question, question_of

POLL_S = 0.05
THINKING_S = 0.4  # at most, before an answer
LATE_S = 2.0  # who waits for a kill that does not come answers all the same
ASKED_S = 0.5  # a form that nobody has shown by then is answered by tool
ANSWER_S = 20.0
OPEN_MAX = 100  # questions in one list: many times what the clients can have open

ASK = "elicitation/create"


class Fleet(Protocol):
    """What the person knows of the servers."""

    def pick(self, rng: Random) -> ServerProcess | None:
        """Any server that takes calls; waits for one a little while."""
        ...

    def living(self) -> list[ServerProcess]:
        """Every server that has answered `initialize` and that nobody has set out to kill."""
        ...

    def alive(self, server: ServerProcess) -> bool:
        """Whether it is one of them."""
        ...


@dataclass(slots=True)
class Open:
    """A question as the person first saw it."""

    since_s: float
    due_s: float
    servers: list[ServerProcess]  # that were there
    answered: list[ServerProcess] = field(default_factory=list[ServerProcess])  # on their connections


@dataclass(frozen=True, slots=True)
class Told:
    """A decision that a server has acknowledged."""

    approval_id: str
    decision: str


class Person(threading.Thread):
    """Answers until `leave` is called or `closed` ends everything."""

    def __init__(self, seed: str, fleet: Fleet, closed: Callable[[], bool]) -> None:
        super().__init__(name="person", daemon=True)
        self._rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self._fleet = fleet
        self._closed = closed
        self._hurried = threading.Event()
        self._leaving = threading.Event()
        self._open: dict[str, Open] = {}  # by call
        self._read: dict[ServerProcess, int] = {}
        self._forms: dict[tuple[ServerProcess, str], Message] = {}
        self.told: list[Told] = []
        self.listed: dict[str, str] = {}  # approval → its call, of all that were seen
        self.problems: list[str] = []

    def hurry(self) -> None:
        """Answer everything at once from now on, also what was to wait for a kill."""
        self._hurried.set()

    def take_time(self) -> None:
        """Hurry no more."""
        self._hurried.clear()

    def leave(self) -> None:
        self._leaving.set()

    def run(self) -> None:
        while not self._leaving.wait(POLL_S) and not self._closed():
            living = self._fleet.living()
            for server in living:
                self._take_forms(server)
            self._answer_forms(living)
            self._answer_listed(living)

    def _seen(self, call: str, living: list[ServerProcess]) -> Open:
        if call not in self._open:
            now_s = time.monotonic()
            self._open[call] = Open(now_s, now_s + self._rng.uniform(0, THINKING_S), living)
        return self._open[call]

    def _complain(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    # -- forms ---------------------------------------------------------------------------------------------------------

    def _take_forms(self, server: ServerProcess) -> None:
        messages = server.messages
        for message in messages[self._read.get(server, 0) :]:
            if message.get("method") == ASK:
                self._forms[server, message["params"]["codex_call_id"]] = message
        self._read[server] = len(messages)

    def _answer_forms(self, living: list[ServerProcess]) -> None:
        for (server, call), form in self._forms.items():
            wanted, open_ = question_of(call), self._seen(call, living)
            if wanted is None or wanted.way != "form" or server not in living:
                continue
            if server in open_.answered or not self._is_due(open_):
                continue
            open_.answered.append(server)
            answer = {"action": "accept", "content": {"decision": "approved"}} if wanted.yes else {"action": "decline"}
            with contextlib.suppress(ServerProcessError, ValueError):  # it was killed meanwhile
                server.respond(form["id"], answer)

    # -- the tool ------------------------------------------------------------------------------------------------------

    def _answer_listed(self, living: list[ServerProcess]) -> None:
        for row in (self._call("approvals_list", {"limit": OPEN_MAX}) or {}).get("approvals", []):
            call, approval = row["call_id"], row["approval_id"]
            self.listed[approval] = call
            open_, wanted = self._seen(call, living), question_of(call)
            if wanted is None:
                self._complain(f"a question about {call}, which needs nobody: {row}")
            elif any(approval == each.approval_id for each in self.told):
                self._complain(f"question {approval} about {call} is open again: {row}")
            elif self._is_for_the_tool(call, wanted, open_, living):
                decision = "approved" if wanted.yes else "denied"
                answer = self._call("approval_decide", {"approval_id": approval, "decision": decision})
                if answer is not None and "kind" not in answer:
                    self.told.append(Told(approval, decision))

    def _is_for_the_tool(self, call: str, wanted: Question, open_: Open, living: list[ServerProcess]) -> bool:
        now_s = time.monotonic()
        match wanted.way:
            case "form":
                shown = any((server, call) in self._forms for server in living)
                return not shown and now_s > open_.since_s + ASKED_S
            case "late":
                another = any(server not in open_.servers for server in living)
                return another or self._hurried.is_set() or now_s > open_.since_s + LATE_S
            case _:
                return self._is_due(open_)

    def _is_due(self, open_: Open) -> bool:
        return self._hurried.is_set() or time.monotonic() > open_.due_s

    def _call(self, tool: str, arguments: Message) -> Message | None:
        """The structured answer, also of a refusal; None where the server died first, or there is none."""
        server = self._fleet.pick(self._rng)
        if server is None:
            return None
        try:
            answer = server.wait_response(server.start_tool(tool, arguments), ANSWER_S)
        except ValueError:  # it was killed before the message was on its way, and its input is closed
            return None
        except ServerProcessError as error:
            if self._fleet.alive(server) and not self._closed():
                self._complain(f"{tool} was not answered by a living server: {error}"[:2000])
            return None
        structured: Message | None = answer.get("result", {}).get("structuredContent")
        return structured

"""The torture: real servers on one file, clients that keep them busy, and kill -9 at chosen and at random instants.

Two servers at a time share the database, so that one that is killed is rescued by the other or by its successor.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, ServerProcessError, write_config
from codexdb.testing.torture_check import Evidence, Findings, Questions, check
from codexdb.testing.torture_client import Client, SeenEvent
from codexdb.testing.torture_person import ANSWER_S, ASK, Person
from codexdb.testing.torture_scene import PHASES, WAITING, Scene
from codexdb.testing.torture_script import TortureModel

CLIENTS = 6
SLOTS = 2
TRIGGER_S = 1.5  # how long the wanted moment is waited for; then the kill comes as it is
IDLE_S = 4.0  # the same for a server that is to have nothing left to do: it has a queue to work off
SETTLE_S = 90.0  # after the last kill: a bound, not an expectation
BOTH = 0.08  # the chance that a kill takes both servers

Progress = Callable[[int, Counter[str]], None]


@dataclass(slots=True)
class Report:
    """The outcome of one run."""

    kills: int
    seed: int
    phases: Counter[str]
    answers: Counter[str]
    findings: Findings
    duration_s: float
    folder: Path
    sessions: int = 0
    repeated: int = 0  # messages that had to be sent more than once

    @property
    def kept_its_promises(self) -> bool:
        return not self.findings.broken


@dataclass(slots=True)
class Slot:
    """One place for a server: it is killed and started again."""

    number: int
    server: ServerProcess | None = None
    ready: bool = False  # it has answered `initialize`
    paused: bool = False  # clients leave it alone
    starts: int = 0
    sent: list[tuple[RequestId, str]] = field(default_factory=list[tuple[RequestId, str]])


class Torture:
    """One run in an empty `folder`; `run` may be called once."""

    def __init__(self, folder: Path, seed: int, progress: Progress | None = None) -> None:
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        self._folder = folder
        self._seed = seed
        self._rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self._progress = progress
        self._changed = threading.Condition()
        self._slots = [Slot(number) for number in range(SLOTS)]
        self._closed = False
        self._shared: list[str] = []
        self._clients: list[Client] = []
        self._phases: Counter[str] = Counter()
        self._pushed: list[tuple[str, str, list[SeenEvent]]] = []
        self._asked: list[tuple[str, str]] = []  # connection and call
        self._open_at_kills: set[str] = set()
        self._person = Person(f"{seed}/person", self, lambda: self._closed)
        self._database = self._home / "codexdb" / "codexdb.sqlite3"
        self._problems: list[str] = []

    def run(self, kills: int) -> Report:
        """Kill so many servers, let the rest be worked off, and judge what is left."""
        began = time.monotonic()
        marks = self._folder / "marks"
        with ScriptedModel(responder=TortureModel(marks)) as model:
            chatty = {"name": "chatty", "base_url": model.base_url, "wire_api": "chat"}
            chatty_table = {"chatty": {**chatty, "request_max_retries": 0, "stream_max_retries": 0}}
            policy = "on-request"  # with full access it asks about what destroys things, and about nothing else
            write_config(self._home, model.base_url, "responses", model_providers=chatty_table, approval_policy=policy)
            try:
                self._begin()
                with Scene(self._database) as scene:
                    while self._phases.total() < kills:
                        self._kill_once(scene, kills - self._phases.total())
                        if self._progress is not None:
                            self._progress(self._phases.total(), self._phases)
                    self._settle(scene)
                findings = check(self._evidence(marks))
            finally:
                self._end()
        findings.broken += self._problems + self._person.problems
        findings.broken += [problem for client in self._clients for problem in client.problems]
        return self._report(findings, kills, time.monotonic() - began)

    def _report(self, findings: Findings, kills: int, duration_s: float) -> Report:
        messages = [sent for client in self._clients for sent in client.messages]
        answers = sum((client.answers for client in self._clients), Counter[str]())
        report = Report(kills, self._seed, self._phases, answers, findings, duration_s, self._folder)
        report.sessions = len(self._shared)
        report.repeated = sum(sent.tries > 1 for sent in messages)
        return report

    # -- servers and clients -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for slot in self._slots:
            self._start(slot)
            if slot.server is not None:  # `initialize` is answered before the file is there, a call is not
                slot.server.initialize()
                slot.server.call_tool("conversations_list", {"limit": 1})
                slot.ready = True
        for number in range(CLIENTS):
            client = Client(f"c{number}", f"{self._seed}/{number}", self, self._shared, lambda: self._closed)
            self._clients.append(client)
            client.start()
        self._person.start()

    def _end(self) -> None:
        self._closed = True
        for slot in self._slots:
            if slot.server is not None:
                slot.server.kill()
                slot.server.close_stdin()
        for client in self._clients:
            client.join(5)
        if self._person.is_alive():
            self._person.join(5)

    def _start(self, slot: Slot) -> None:
        slot.starts += 1
        slot.ready, slot.sent, slot.paused = False, [], False
        slot.server = ServerProcess(self._home)

    def _restart(self, slot: Slot) -> None:
        self._start(slot)
        if slot.server is not None:
            threading.Thread(target=self._greet, args=(slot, slot.server), daemon=True).start()

    def _greet(self, slot: Slot, server: ServerProcess) -> None:
        with contextlib.suppress(ServerProcessError):  # killed while it started
            server.initialize()
            with self._changed:
                slot.ready = slot.server is server
                self._changed.notify_all()

    def pick(self, rng: Random) -> ServerProcess | None:
        with self._changed:
            found = [slot.server for slot in self._slots if slot.ready and not slot.paused and slot.server]
            if not found:
                self._changed.wait(0.2)
            return rng.choice(found) if found else None

    def living(self) -> list[ServerProcess]:
        return [slot.server for slot in self._slots if slot.ready and slot.server]

    def alive(self, server: ServerProcess) -> bool:
        return server in self.living()

    def sent(self, server: ServerProcess, request_id: RequestId, tool: str) -> None:
        with self._changed:
            for slot in self._slots:
                if slot.server is server:
                    slot.sent.append((request_id, tool))
            self._changed.notify_all()

    def _await(self, happened: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(happened, 30):
                raise TimeoutError(f"{what}: {[slot.server.stderr for slot in self._slots if slot.server]}")

    # -- killing -------------------------------------------------------------------------------------------------------

    def _kill_once(self, scene: Scene, left: int) -> None:
        wanted = self._wanted()
        slot = self._victim()
        if wanted == "mid-rescue":
            self._provoke_rescue(scene, slot)
            if not left - 1:
                return
        else:
            self._await_worker(scene, slot)
            self._wait_for_moment(wanted, scene, slot)
        if not self._spare(scene, slot):
            return
        self._strike(scene, slot, wanted)
        other = self._slots[1 - slot.number]
        if left > 1 and self._rng.random() < BOTH and other.ready and self._spare(scene, other):
            self._strike(scene, other, None)
        for each in self._slots:
            if each.server is None:
                self._restart(each)

    def _victim(self) -> Slot:
        """Any server, but rather one that runs than one that starts."""
        running = [slot for slot in self._slots if slot.ready]
        return self._rng.choice(running if running and self._rng.random() < 0.75 else self._slots)

    def _await_worker(self, scene: Scene, slot: Slot) -> None:
        """Wait until the server has opened the file; no longer than it may take."""
        self._await(lambda: slot.ready, "a server did not start")
        scene.wait(lambda: slot.server is None or scene.knows(slot.server.pid), 10.0)

    def _wanted(self) -> str | None:
        """Half of the kills come at random; the others look for the moment that was hit least."""
        if self._rng.random() < 0.4:
            return None
        least = min(self._phases[phase] for phase in PHASES)
        return self._rng.choice([phase for phase in PHASES if self._phases[phase] == least])

    def _wait_for_moment(self, wanted: str | None, scene: Scene, slot: Slot) -> None:
        server = slot.server
        assert server is not None  # noqa: S101 - it is ready
        match wanted:
            case "acknowledging":
                known = len(slot.sent)
                with self._changed:
                    self._changed.wait_for(lambda: len(slot.sent) > known, TRIGGER_S)
                time.sleep(self._rng.uniform(0, 0.002))
            case "idle":
                slot.paused = True
                self._person.hurry()
                scene.wait(lambda: not scene.held_by(server.pid) and not scene.waits_for(server.pid), IDLE_S)
                self._person.take_time()
                time.sleep(self._rng.uniform(0, 0.01))
            case _ if wanted == WAITING:
                scene.wait(lambda: scene.waits_for(server.pid), TRIGGER_S)
                time.sleep(self._rng.uniform(0, 0.01))
            case "streaming" | "call started" | "between items":
                _wait_event(server, wanted)
                time.sleep(self._rng.uniform(0, 0.01))
            case _:
                time.sleep(self._rng.uniform(0, 0.8))

    def _provoke_rescue(self, scene: Scene, slot: Slot) -> None:
        """Kill a server that holds turns, and look out for its successor taking them."""
        self._await_worker(scene, slot)
        server = slot.server
        assert server is not None  # noqa: S101 - it is ready
        scene.wait(lambda: bool(scene.held_by(server.pid)), TRIGGER_S)
        if not self._spare(scene, slot):
            return
        self._strike(scene, slot, None)
        self._restart(slot)
        successor = slot.server
        assert successor is not None  # noqa: S101 - just started
        scene.wait(lambda: scene.knows(successor.pid), 5.0)
        time.sleep(self._rng.uniform(0, 0.012))

    def _spare(self, scene: Scene, slot: Slot) -> bool:
        """Wait until no turn would be taken down for the third time: that one ends `worker_died`, as it should. Whether
        none is.
        """
        other = self._slots[1 - slot.number].server
        return slot.server is not None and scene.wait(
            lambda: not scene.endangered(other.pid if other else None), 4 * TRIGGER_S
        )

    def _strike(self, scene: Scene, slot: Slot, wanted: str | None) -> None:
        server = slot.server
        assert server is not None  # noqa: S101 - only living ones are struck
        with self._changed:
            slot.ready = False
        server.kill()
        server.close_stdin()
        messages = server.messages
        others = [each.server.pid for each in self._slots if each.server and each is not slot]
        asked = _asked(messages)
        seen = scene.phases_of(server.pid, others, asked) | _unanswered(slot.sent, messages)
        least = min(sorted(seen), key=lambda phase: self._phases[phase], default="idle")  # of those that it was in
        chosen = wanted if wanted in seen else least
        self._phases[chosen] += 1
        self._open_at_kills.update(scene.pending())
        self._note(slot, server)
        slot.server = None

    def _note(self, slot: Slot, server: ServerProcess) -> None:
        """Keep what its clients were told."""
        name, messages = f"server {slot.number}.{slot.starts}", server.messages
        self._pushed += _pushed(name, messages)
        self._asked += [(name, call) for call in _asked(messages)]
        if "Traceback" in server.stderr:
            self._problems.append(f"{name} said: {server.stderr[-1500:]}")

    # -- the end -------------------------------------------------------------------------------------------------------

    def _settle(self, scene: Scene) -> None:
        """Everybody finishes what they are at; then the sessions come to rest, and the clients read to the end."""
        for client in self._clients:
            client.leave()
        self._person.hurry()
        deadline = time.monotonic() + SETTLE_S
        for client in self._clients:
            client.join(max(0.0, deadline - time.monotonic()))
            if client.is_alive():
                self._problems.append(f"client {client.name} still waits after {SETTLE_S} s")
        if not scene.wait(scene.at_rest, max(5.0, deadline - time.monotonic())):
            self._problems.append(f"turns are still open after {SETTLE_S} s")
        self._person.leave()
        self._person.join(ANSWER_S)
        for client in self._clients:
            for session_id in client.seen:
                client.read_on(session_id, to_the_end=True)
        for slot in self._slots:
            if slot.server is not None:
                self._note(slot, slot.server)

    def _evidence(self, marks: Path) -> Evidence:
        messages = [sent for client in self._clients for sent in client.messages]
        read = [(client.name, client.seen) for client in self._clients]
        questions = Questions(self._asked, self._person.listed, self._person.told, self._open_at_kills)
        return Evidence(self._database, marks, messages, read, self._pushed, questions)


_TRIGGERS = {
    "streaming": ("agent_message_delta",),
    "call started": ("exec_command_begin",),
    "between items": ("exec_command_end", "task_started"),
}


def _wait_event(server: ServerProcess, phase: str) -> None:
    def wanted(message: Message) -> bool:
        return message.get("method") == "codex/event" and message["params"]["msg"]["type"] in _TRIGGERS[phase]

    with contextlib.suppress(ServerProcessError):
        server.wait_message(wanted, phase, TRIGGER_S, after=len(server.messages))


def _unanswered(sent: list[tuple[RequestId, str]], messages: list[Message]) -> set[str]:
    """Whether a message was on its way and nothing had been said about it: no answer, and no event of its turn."""
    heard = {message.get("id") for message in messages if "method" not in message}
    heard |= {
        message["params"]["_meta"].get("requestId") for message in messages if message.get("method") == "codex/event"
    }
    joined = {"codex-reply"}  # may be a repeat, which joins a turn without a word
    return {"acknowledging"} if any(id_ not in heard and tool not in joined for id_, tool in sent) else set()


def _asked(messages: list[Message]) -> list[str]:
    """The calls that the client was asked about, each as often as it was."""
    return [message["params"]["codex_call_id"] for message in messages if message.get("method") == ASK]


def _pushed(server: str, messages: list[Message]) -> list[tuple[str, str, list[SeenEvent]]]:
    """The committed events that a server sent, by session."""
    found: dict[str, list[SeenEvent]] = {}
    for message in messages:
        if message.get("method") == "codex/event":
            params: Message = message["params"]
            if "seq" in params["_meta"]:
                events = found.setdefault(params["_meta"]["conversationId"], [])
                events.append((params["_meta"]["seq"], params["msg"]))
    return [(server, session, events) for session, events in found.items()]

"""Random sequences of everything that may happen to the rows of a few sessions, against a small model of what is right.

The verbs run on a real database file, one transaction each. 400 examples of 30 steps; `CODEXDB_STATEFUL=500x50` in the
environment sets other numbers.
"""
# ruff: noqa: S608 - the names in the queries are our own

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from codexdb.domain.approval import Decision, Fallback, NewApproval
from codexdb.domain.event import background_event, error, task_complete
from codexdb.domain.item import assistant_message, function_call, function_call_output, input_text, user_message
from codexdb.domain.outcome import (
    Busy,
    Conflict,
    Decided,
    Duplicate,
    IfRunning,
    Queued,
    SendOutcome,
    Started,
    Steered,
    TooLate,
)
from codexdb.domain.record import CallChange, CallDecided, CallEnded, CallProposed, CallStarted, Entry, NewItem
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.domain.transition import TURN, TurnState
from codexdb.domain.worker import Claim, RescuePolicy, WorkerIdentity
from codexdb.store import claims, endings, inputs, record, revision, turns, workers
from codexdb.store.endings import Ending
from codexdb.store.pragmas import open_for_writing
from codexdb.store.sessions import NewSession, insert_session
from codexdb.store.tables import metadata
from codexdb.store.transaction import Transaction
from tests.stateful.invariants import Invariants, Model

P = ParamSpec("P")
T = TypeVar("T")

SESSIONS = 2
WORKERS = 2
LONG_MS = 1_000_000  # the age beyond which nothing goes on
UID, HOME = 1000, "/home"

ENDINGS = (
    Ending(TurnState.COMPLETED, "answered", task_complete("done"), last_agent_message="done"),
    Ending(TurnState.FAILED, "model_error", error("no"), "model_error", "no"),
    endings.INTERRUPTED,
)
POLICIES = (
    RescuePolicy(resume=True, age_ms_max=LONG_MS, crashes_max=3),
    RescuePolicy(resume=False, age_ms_max=LONG_MS, crashes_max=3),
    RescuePolicy(resume=True, age_ms_max=-1, crashes_max=3),
)


@dataclass
class Call:
    """A tool call, and what may follow for it."""

    id: str
    claim: Claim
    started: bool = False
    over: bool = False


def settings_of_a_session() -> SessionSettings:
    return SessionSettings("m", "p", "/", ApprovalPolicy.NEVER, SandboxMode.DANGER_FULL_ACCESS)


def has_claims(machine: "StoreMachine") -> bool:
    return bool(machine.claims)


def has_started_calls(machine: "StoreMachine") -> bool:
    return any(call.started and not call.over for call in machine.calls)


class StoreMachine(Invariants):
    """Each rule is one transaction of some process, timely or late."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="codexdb-stateful-"))
        path = self.folder / "db.sqlite3"
        revision.prepare(path)
        self.connection = open_for_writing(path)
        self.model = Model()
        self.counter = itertools.count(1)
        self.now_ms = 1_000
        self.workers: list[int] = []  # alive
        self.claims: list[Claim] = []  # every one there ever was
        self.calls: list[Call] = []
        self.sessions: list[str] = []

    def teardown(self) -> None:
        self.connection.close()
        shutil.rmtree(self.folder)

    # -- running verbs -------------------------------------------------------------------------------------------------

    def commit(self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction. Whoever is told that a turn is his must be the only one."""
        transaction = Transaction(self.connection)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = verb(transaction, *args, **kwargs)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        for each in transaction.announcements:
            if isinstance(each, Claim):
                assert each.turn_id not in self.model.holds, "a turn was given to two"
                self.model.holds[each.turn_id] = each
                self.claims.append(each)
        return result

    def changes_nothing(self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        before = self.dump()
        result = self.commit(verb, *args, **kwargs)
        assert self.dump() == before, "a refused write changed something"
        return result

    def fenced(self, verb: Callable[[Transaction, Claim], object], claim: Claim) -> bool:
        """Run a write of a claim; whether it counted, which is so exactly while the claim holds."""
        if self.model.holds.get(claim.turn_id) == claim:
            assert self.commit(verb, claim) not in (False, None)
            return True
        assert self.changes_nothing(verb, claim) in (False, None, [])
        return False

    def dump(self) -> list[object]:
        return [self.rows(f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in metadata.tables]

    def new(self, kind: str) -> str:
        return f"{kind}-{next(self.counter)}"

    def any_claim(self, number: int, *, timely: bool) -> Claim | None:
        """One that holds, or any that ever did."""
        pool: Sequence[Claim] = list(self.model.holds.values()) if timely else self.claims
        return pool[number % len(pool)] if pool else None

    def register(self) -> None:
        identity = WorkerIdentity(self.new("worker"), 1, "1", "boot", "ns", UID, HOME, "0")
        self.workers.append(self.commit(workers.register, identity, self.now_ms, self.now_ms))

    # -- rules ---------------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        for _ in range(WORKERS):
            self.register()
        for _ in range(SESSIONS):
            name = self.new("session")
            self.commit(insert_session, NewSession(name, "test", settings_of_a_session(), [], [], self.now_ms))
            self.sessions.append(name)
            self.model.active[name] = None

    @rule(
        session=st.integers(0, SESSIONS - 1),
        worker=st.integers(0, WORKERS - 1),
        mode=st.sampled_from(IfRunning),
        name=st.none() | st.integers(0, 5),
        content=st.integers(0, 1),
    )
    def send(self, session: int, worker: int, mode: IfRunning, name: int | None, content: int) -> None:
        session_id = self.sessions[session]
        text = self.new("text")
        message = turns.NewMessage(
            input_id=self.new("input"),
            turn_id=self.new("turn"),
            message_id=None if name is None else f"m{name}",
            content=[{"type": "text", "text": text}],
            content_hash=str(content),
            item=user_message([input_text(text)]),
            submission_id="1",
            trace_context=None,
            worker_key=self.workers[worker],
            now_ms=self.now_ms,
            if_running=mode,
        )
        before = self.dump()
        outcome = self.commit(turns.start, session_id, message)
        assert type(outcome) is self.expected(session_id, message, mode)
        if isinstance(outcome, Started | Queued | Steered):
            self.model.texts.append(text)
            self.note(session_id, message, outcome)
        else:
            assert self.dump() == before

    def expected(self, session_id: str, message: turns.NewMessage, mode: IfRunning) -> type[SendOutcome]:
        earlier = self.model.accepted.get((session_id, message.message_id or ""))
        if earlier is not None:
            return Duplicate if earlier == message.content_hash else Conflict
        if self.model.active[session_id] is None:
            return Started
        return {IfRunning.REJECT: Busy, IfRunning.QUEUE: Queued, IfRunning.STEER: Steered}[mode]

    def note(self, session_id: str, message: turns.NewMessage, outcome: SendOutcome) -> None:
        if message.message_id is not None:
            self.model.accepted[session_id, message.message_id] = message.content_hash
        if isinstance(outcome, Started):
            self.model.active[session_id] = outcome.turn_id

    @rule(worker=st.integers(0, WORKERS - 1), limit=st.integers(1, 6), policy=st.sampled_from(POLICIES))
    def claim_waiting(self, worker: int, limit: int, policy: RescuePolicy) -> None:
        count = len(self.claims)
        newest = self.rows("SELECT id FROM turns ORDER BY id DESC LIMIT ?", limit)  # whatever state they are in
        keys = [cast("int", key) for (key,) in newest]
        taken = self.commit(claims.claim_waiting, keys, self.workers[worker], policy, self.now_ms)
        assert taken == len(self.claims) - count
        self.refresh_active()

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans(), answer=st.sampled_from([None, "said"]))
    def append(self, number: int, timely: bool, answer: str | None) -> None:
        claim = self.any_claim(number, timely=timely)
        if claim is not None:
            entry = Entry(items=[NewItem(assistant_message("said"))], events=[background_event("noted")], answer=answer)
            self.fenced(lambda transaction, claim: record.append(transaction, claim, entry, self.now_ms), claim)

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans(), start=st.booleans())
    def propose(self, number: int, timely: bool, start: bool) -> None:
        claim = self.any_claim(number, timely=timely)
        if claim is None:
            return
        call = Call(self.new("call"), claim)
        proposed = CallProposed(call.id, call.id, "shell", "{}")
        entry = Entry(calls=[proposed], items=[NewItem(function_call(call.id, "shell", "{}"))])
        if self.fenced(lambda transaction, claim: record.append(transaction, claim, entry, self.now_ms), claim):
            self.calls.append(call)
            if start:
                intent = Entry(calls=[CallDecided(call.id, approved=True), CallStarted(call.id)])
                assert self.commit(record.append, claim, intent, self.now_ms)
                call.started = True

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans(), start=st.booleans(), fallback=st.sampled_from(Fallback))
    def ask(self, number: int, timely: bool, start: bool, fallback: Fallback) -> None:
        """Before a call, or, with `start`, after it has failed once."""
        claim = self.any_claim(number, timely=timely)
        if claim is None:
            return
        call = self.new("call")
        asked = NewApproval(self.new("approval"), call, "exec", {"command": [call]}, fallback)
        calls: list[CallChange] = [CallProposed(call, call, "shell", "{}")]
        calls += [CallDecided(call, approved=True), CallStarted(call)] if start else []
        items = [NewItem(function_call(call, "shell", "{}"))]
        if fallback is Fallback.DENY:
            calls.append(CallEnded(call, "failed", None, "no") if start else CallDecided(call, approved=False))
            items.append(NewItem(function_call_output(call, "no")))
        entry = Entry(calls=calls, items=items, asks=[asked])
        self.fenced(lambda transaction, claim: record.append(transaction, claim, entry, self.now_ms), claim)

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans())
    def wait(self, number: int, timely: bool) -> None:
        claim = self.any_claim(number, timely=timely)
        runs = (  # a turn never waits while a call runs
            "SELECT 1 FROM tool_calls AS c JOIN turns AS t ON t.id = c.turn_id WHERE t.public_id = ? "
            "AND c.state = 'started' AND NOT EXISTS (SELECT 1 FROM approvals AS a WHERE a.tool_call_id = c.id)"
        )
        if claim is None or self.rows(runs, claim.turn_id):
            return
        query = (
            "SELECT 1 FROM turns AS t WHERE t.public_id = ? AND (t.interrupt_requested_at_ms IS NOT NULL "
            "OR EXISTS (SELECT 1 FROM approvals AS a WHERE a.turn_id = t.id AND a.state = 'pending'))"
        )
        if self.model.holds.get(claim.turn_id) == claim and self.rows(query, claim.turn_id):
            assert self.commit(endings.wait, claim, None, self.now_ms)
            del self.model.holds[claim.turn_id]
            self.refresh_active()
        else:
            assert not self.changes_nothing(endings.wait, claim, None, self.now_ms)

    @rule(number=st.integers(0, 1_000), decision=st.sampled_from(Decision), twice=st.booleans())
    def decide(self, number: int, decision: Decision, twice: bool) -> None:
        """Any question there ever was, by one or by two."""
        found = cast("list[tuple[str, str]]", self.rows("SELECT public_id, state FROM approvals ORDER BY id"))
        if not found:
            return
        approval, state = found[number % len(found)]
        if state == "pending":
            assert isinstance(self.commit(endings.decide, approval, decision, "one", self.now_ms), Decided)
            self.refresh_active()
        if twice or state != "pending":
            late = self.changes_nothing(endings.decide, approval, Decision.ABORT, "another", self.now_ms)
            assert isinstance(late, TooLate)
            assert state != "pending" or late.decision == decision.value

    @precondition(has_started_calls)
    @rule(number=st.integers(0, 1_000))
    def end_call(self, number: int) -> None:
        """In time, or late: by a worker that had lost its turn meanwhile."""
        pool = [call for call in self.calls if call.started and not call.over]
        call = pool[number % len(pool)]
        ended = CallEnded(call.id, "succeeded", 0, "printed")
        entry = Entry(calls=[ended], items=[NewItem(function_call_output(call.id, "printed"))])
        self.fenced(lambda transaction, claim: record.append(transaction, claim, entry, self.now_ms), call.claim)
        call.over = True

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans())
    def deliver(self, number: int, timely: bool) -> None:
        claim = self.any_claim(number, timely=timely)
        if claim is not None:
            self.fenced(lambda transaction, claim: inputs.deliver(transaction, claim, self.now_ms), claim)

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans(), offset=st.integers(1, 3))
    def say_a_piece(self, number: int, timely: bool, offset: int) -> None:
        claim = self.any_claim(number, timely=timely)
        if claim is not None:
            piece = (record.store_delta, claim, 0, offset, "agent_message_delta", "sa", self.now_ms)
            timely = self.model.holds.get(claim.turn_id) == claim
            (self.commit if timely else self.changes_nothing)(*piece)

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans(), ending=st.sampled_from(ENDINGS))
    def end(self, number: int, timely: bool, ending: Ending) -> None:
        self.let_go(number, timely, lambda transaction, claim: endings.end(transaction, claim, ending, self.now_ms))

    @precondition(has_claims)
    @rule(number=st.integers(0, 1_000), timely=st.booleans())
    def suspend(self, number: int, timely: bool) -> None:
        notice = background_event("going down")
        self.let_go(number, timely, lambda transaction, claim: endings.suspend(transaction, claim, notice, self.now_ms))

    def let_go(self, number: int, timely: bool, verb: Callable[[Transaction, Claim], bool]) -> None:
        claim = self.any_claim(number, timely=timely)
        if claim is not None and self.fenced(verb, claim):
            del self.model.holds[claim.turn_id]
            self.refresh_active()

    @rule(number=st.integers(0, 1_000))
    def interrupt(self, number: int) -> None:
        """Any turn there ever was, in whatever state."""
        found = cast("list[tuple[str, str]]", self.rows("SELECT public_id, state FROM turns ORDER BY id"))
        if not found:
            return
        turn_id, state = found[number % len(found)]
        if state in TURN.terminal:
            assert not self.changes_nothing(endings.request_interrupt, turn_id, self.now_ms)
            return
        waiting = (
            "SELECT i.content ->> '$[0].text' FROM inputs AS i JOIN turns AS t ON t.id = i.turn_id "
            "WHERE t.public_id = ? AND i.delivered_at_ms IS NULL"
        )
        undelivered = [cast("str", text) for (text,) in self.rows(waiting, turn_id)]
        assert self.commit(endings.request_interrupt, turn_id, self.now_ms)
        if state == TurnState.QUEUED:
            self.model.withdrawn.update(undelivered)
        if state == TurnState.RUNNING:
            assert not self.changes_nothing(self.again, turn_id)
        self.refresh_active()

    def again(self, transaction: Transaction, turn_id: str) -> bool:
        endings.request_interrupt(transaction, turn_id, self.now_ms + 1)
        return False

    @rule(worker=st.integers(0, WORKERS - 1), policy=st.sampled_from(POLICIES), twice=st.booleans())
    def die(self, worker: int, policy: RescuePolicy, twice: bool) -> None:
        """A worker is found dead, maybe by two at once. It may only have been stopped: its claims stay for later."""
        key, seen_at_ms = self.workers.pop(worker), 0
        held = {turn for turn, claim in self.model.holds.items() if claim.fence.worker_key == key}
        for turn in held:
            del self.model.holds[turn]
        assert self.commit(claims.rescue_all, key, policy, seen_at_ms, self.now_ms) == len(held)
        if twice:
            assert self.changes_nothing(claims.rescue_all, key, policy, seen_at_ms, self.now_ms) == 0
        assert self.commit(workers.stop, key, self.now_ms)
        assert not self.changes_nothing(workers.heartbeat, key, self.now_ms)
        self.register()
        self.refresh_active()

    @rule()
    def tick(self) -> None:
        self.now_ms += 100

    def refresh_active(self) -> None:
        """Which turn follows an ended one is checked by the invariants; from here on it is what holds the session."""
        query = "SELECT s.public_id, t.public_id FROM sessions AS s LEFT JOIN turns AS t ON t.id = s.active_turn_id"
        self.model.active.update(cast("list[tuple[str, str | None]]", self.rows(query)))
        gone = "SELECT content ->> '$[0].text' FROM inputs WHERE withdrawn_at_ms IS NOT NULL"
        self.model.withdrawn.update(cast("str", text) for (text,) in self.rows(gone))


examples, steps = (int(number) for number in os.environ.get("CODEXDB_STATEFUL", "400x30").split("x"))

TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=examples,
    stateful_step_count=steps,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

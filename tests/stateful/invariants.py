"""What holds of the rows after every step, whatever the step was, and the small model that it is compared with."""
# ruff: noqa: S608 - the names in the queries are our own

import sqlite3
from dataclasses import dataclass, field
from typing import cast

from hypothesis.stateful import RuleBasedStateMachine, invariant

from codexdb.domain.event import TERMINAL_TYPES
from codexdb.domain.transition import HOLDS_SESSION, TURN
from codexdb.domain.worker import Claim
from codexdb.store.tables import quoted


@dataclass
class Model:
    """What must be so, kept without looking at the rows."""

    holds: dict[str, Claim] = field(default_factory=dict[str, Claim])  # the one claim of a turn that may write
    active: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    accepted: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])  # → content
    texts: list[str] = field(default_factory=list[str])  # of every accepted message
    withdrawn: set[str] = field(default_factory=set[str])


class Invariants(RuleBasedStateMachine):
    """A machine on a connection, with the model of what its steps have done."""

    connection: sqlite3.Connection
    model: Model

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        return self.connection.execute(query, parameters).fetchall()

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def who_was_asked_to_end_is_not_taken_up_again(self) -> None:
        query = "SELECT public_id FROM turns WHERE state = 'ready' AND interrupt_requested_at_ms IS NOT NULL"
        assert self.rows(query) == []

    @invariant()
    def one_turn_holds_a_session(self) -> None:
        holding = f"SELECT session_id, id FROM turns WHERE state IN ({quoted(HOLDS_SESSION)}) ORDER BY 1"
        active = "SELECT id, active_turn_id FROM sessions WHERE active_turn_id IS NOT NULL ORDER BY 1"
        assert self.rows(holding) == self.rows(active)
        idle = (
            "SELECT s.id FROM sessions AS s JOIN turns AS t ON t.session_id = s.id AND t.state = 'queued' "
            "WHERE s.active_turn_id IS NULL"
        )
        assert self.rows(idle) == [], "a session is free while turns wait for it"

    @invariant()
    def holders_are_who_they_should_be(self) -> None:
        query = "SELECT public_id, attempt, worker_id FROM turns WHERE state = 'running' ORDER BY id"
        known = {turn: (claim.fence.attempt, claim.fence.worker_key) for turn, claim in self.model.holds.items()}
        assert {turn: tuple(rest) for turn, *rest in self.rows(query)} == known

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        for table, column in (("events", "next_seq"), ("items", "next_item_seq")):
            query = (
                f"SELECT s.id FROM sessions AS s LEFT JOIN {table} AS t ON t.session_id = s.id GROUP BY s.id "
                f"HAVING count(t.seq) <> s.{column} - 1 OR coalesce(max(t.seq), 0) <> s.{column} - 1"
            )
            assert self.rows(query) == []

    @invariant()
    def queued_turns_start_in_order(self) -> None:
        """A turn that was queued is not passed by a later one; what was steered too late goes first, though."""
        query = (
            "SELECT q.id FROM turns AS q JOIN turns AS later ON later.session_id = q.session_id AND later.id > q.id "
            "JOIN inputs AS i ON i.turn_id = later.id AND i.mode = 'queue' "
            "WHERE q.state = 'queued' AND later.started_at_ms IS NOT NULL"
        )
        assert self.rows(query) == []

    @invariant()
    def every_message_is_delivered_once(self) -> None:
        seen = [text for (text,) in self.rows("SELECT payload ->> '$.content[0].text' FROM items WHERE role = 'user'")]
        assert len(seen) == len(set(seen)), "a message was delivered twice"
        query = (
            "SELECT i.content ->> '$[0].text', i.delivered_at_ms IS NOT NULL, i.withdrawn_at_ms IS NOT NULL, t.state "
            "FROM inputs AS i JOIN turns AS t ON t.id = i.turn_id"
        )
        found = cast("list[tuple[str, int, int, str]]", self.rows(query))
        assert sorted(text for text, *_ in found) == sorted(self.model.texts)
        for text, delivered, withdrawn, state in found:
            assert bool(delivered) == (text in seen)
            assert bool(withdrawn) == (text in self.model.withdrawn)
            assert not (delivered and withdrawn)
            assert delivered or withdrawn or state not in TURN.terminal, "a turn ended without its message"

    @invariant()
    def every_turn_ends_once(self) -> None:
        kinds = quoted(tuple(sorted(TERMINAL_TYPES)))
        query = (
            "SELECT t.state, count(e.seq), max(e.seq) IS (SELECT max(seq) FROM events AS any "
            "WHERE any.session_id = t.session_id AND any.turn_id = t.id) FROM turns AS t LEFT JOIN events AS e "
            f"ON e.session_id = t.session_id AND e.turn_id = t.id AND e.type IN ({kinds}) GROUP BY t.id"
        )
        for state, count, last in self.rows(query):
            assert count == (state in TURN.terminal)
            assert last or not count, "something was written after a turn's end"

    @invariant()
    def pieces_belong_to_open_turns(self) -> None:
        joined = "SELECT t.id FROM turns AS t JOIN deltas AS d ON d.turn_id = t.id"
        assert self.rows(f"{joined} WHERE t.state IN ({quoted(TURN.terminal)})") == []

    @invariant()
    def who_waits_is_asked_and_has_no_worker(self) -> None:
        pending = "EXISTS (SELECT 1 FROM approvals AS a WHERE a.turn_id = t.id AND a.state = 'pending')"
        waiting = (
            f"SELECT t.id FROM turns AS t WHERE t.state = 'waiting' AND (t.worker_id IS NOT NULL OR NOT {pending})"
        )
        assert self.rows(waiting) == []
        ended = f"SELECT t.id FROM turns AS t WHERE t.state IN ({quoted(TURN.terminal)}) AND {pending}"
        assert self.rows(ended) == []
        closed = (
            "SELECT a.id FROM approvals AS a JOIN tool_calls AS c ON c.id = a.tool_call_id WHERE a.state = 'pending'"
        )
        assert self.rows(f"{closed} AND c.ended_at_ms IS NOT NULL") == []

    @invariant()
    def calls_have_outcomes(self) -> None:
        query = (
            "SELECT c.id FROM tool_calls AS c JOIN turns AS t ON t.id = c.turn_id WHERE c.ended_at_ms IS NULL "
            f"AND (t.state IN ({quoted(TURN.terminal)}) OR c.state = 'started' AND t.state <> 'running' "
            "AND NOT EXISTS (SELECT 1 FROM approvals AS a WHERE a.tool_call_id = c.id))"
        )
        assert self.rows(query) == []
        outputs = (
            "SELECT c.id FROM tool_calls AS c LEFT JOIN items AS o ON o.type = 'function_call_output' "
            "AND o.payload ->> 'call_id' = c.call_id GROUP BY c.id HAVING count(o.id) <> (c.ended_at_ms IS NOT NULL)"
        )
        assert self.rows(outputs) == []

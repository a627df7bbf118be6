"""Whether the rows of a session are such as codexdb writes: checked one by one before any of them is written."""

from collections.abc import Mapping
from typing import cast

from codexdb.cli.moving.lines import BadLineError
from codexdb.domain.event import TERMINAL_TYPES
from codexdb.domain.ids import parse_id
from codexdb.domain.json import JsonObject, decode, decode_object
from codexdb.domain.transition import TABLES, TURN
from codexdb.store.exchange import ELSEWHERE, KINDS, Field, SessionRow
from codexdb.store.sessions import settings_from

_INTEGER_MAX = 2**63 - 1
_TERMINAL = {table.table.removesuffix("s"): table.terminal for table in TABLES}
_STATES = {table.table.removesuffix("s"): table.states for table in TABLES}
_ORDER = list(KINDS)
_LISTS = frozenset({("input", "content")})  # of the fields that hold JSON, those that are arrays


class SessionCheck:
    """Takes the rows of one session in their order. Every method raises `BadLineError` with the reason.

    Holds in memory: numbers of turns and ids of calls, not rows.
    """

    def __init__(self) -> None:
        self.session: JsonObject = {}
        self.rows = 0
        self.openings: list[str] = []
        self._kind = 0
        self._turns: dict[int, str] = {}  # number → state
        self._ends: dict[int, int] = {}  # number → terminal events
        self._calls: dict[str, str] = {}  # id → state
        self._items = 0
        self._events = 0
        self._ends_at_ms = 0

    @property
    def session_id(self) -> str:
        return str(self.session.get("public_id", "?"))

    @property
    def is_open(self) -> bool:
        return any(state not in TURN.terminal for state in self._turns.values())

    @property
    def ends_at_ms(self) -> int:
        """The last instant that the rows know of."""
        return max(self._ends_at_ms, cast("int", self.session["updated_at_ms"]))

    def take(self, row: SessionRow) -> None:
        """The next row, as it is going to be written."""
        kind = _ORDER.index(row.kind)
        if kind < self._kind:
            raise BadLineError(f"a row of kind `{row.kind}` stands behind one of kind `{_ORDER[self._kind]}`")
        self._kind = kind
        self.rows += 1
        for field in KINDS[row.kind].fields:
            _check_value(row.kind, field, row.fields[field.name])
        self._check_references(row.fields)
        if row.kind in _STATES and row.fields["state"] not in _STATES[row.kind]:
            raise BadLineError(f"`state` of a {row.kind} is none that codexdb knows")
        getattr(self, f"_take_{row.kind}", _nothing_more)(row.fields)

    def end(self) -> None:
        """Behind the last row."""
        for name, count in (("next_seq", self._events), ("next_item_seq", self._items)):
            if self.session[name] != count + 1:
                what = "events" if name == "next_seq" else "items"
                raise BadLineError(f"the session has {count} {what}, but its `{name}` is {self.session[name]}")
        for number, state in self._turns.items():
            if self._ends.get(number, 0) != (state in TURN.terminal):
                raise BadLineError(f"turn {number} is {state}, and {self._ends.get(number, 0)} events end it")
        if len(self._turns) != self.session["turn_count"]:
            raise BadLineError(f"`turn_count` is {self.session['turn_count']}, and there are {len(self._turns)} turns")

    # -- kinds ---------------------------------------------------------------------------------------------------------

    def _take_session(self, fields: JsonObject) -> None:
        if self.session:
            raise BadLineError("a second row of kind `session`")
        _check_id(fields)
        try:
            settings_from(fields, decode_object(cast("str", fields["settings"])))
        except (TypeError, ValueError) as error:
            raise BadLineError(f"settings that codexdb does not know: {error}") from error
        self.session = fields

    def _take_turn(self, fields: JsonObject) -> None:
        _check_id(fields)
        if fields["number"] != len(self._turns) + 1:
            raise BadLineError(f"`number` of a turn is {fields['number']}, expected {len(self._turns) + 1}")
        self._turns[cast("int", fields["number"])] = str(fields["state"])

    def _take_input(self, fields: JsonObject) -> None:
        if fields["opens_session"] == 1 and fields["message_id"] is not None:
            self.openings.append(str(fields["message_id"]))

    def _take_item(self, fields: JsonObject) -> None:
        self._items += 1
        if fields["seq"] != self._items:
            raise BadLineError(f"`seq` of an item is {fields['seq']}, expected {self._items}")
        payload = decode_object(cast("str", fields["payload"]))
        if payload.get("type") != fields["type"] or payload.get("role") != fields["role"]:
            raise BadLineError("`type` or `role` of an item is not that of its payload")
        if fields["type"] == "compaction" and not _is_list_of_objects(payload.get("replacement")):
            raise BadLineError("a compaction without a `replacement`")
        if cast("int", fields["epoch"]) > cast("int", self.session["epoch"]):
            raise BadLineError("`epoch` of an item is later than that of the session")

    def _take_tool_call(self, fields: JsonObject) -> None:
        _check_id(fields)
        self._calls[str(fields["public_id"])] = str(fields["state"])
        self._check_open(fields, "tool_call")

    def _take_approval(self, fields: JsonObject) -> None:
        _check_id(fields)
        self._check_open(fields, "approval")

    def _take_event(self, fields: JsonObject) -> None:
        self._events += 1
        if fields["seq"] != self._events:
            raise BadLineError(f"`seq` of an event is {fields['seq']}, expected {self._events}")
        if decode_object(cast("str", fields["msg"])).get("type") != fields["type"]:
            raise BadLineError("`type` of an event is not that of its `msg`")
        self._ends_at_ms = max(self._ends_at_ms, cast("int", fields["created_at_ms"]))
        if fields["type"] in TERMINAL_TYPES:
            turn = cast("int | None", fields["turn"])
            if turn is None:
                raise BadLineError("an event that ends a turn belongs to none")
            self._ends[turn] = self._ends.get(turn, 0) + 1

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _check_open(self, fields: JsonObject, kind: str) -> None:
        turn = self._turns[cast("int", fields["turn"])]
        if turn in TURN.terminal and fields["state"] not in _TERMINAL[kind]:
            raise BadLineError(f"a {kind} is {fields['state']}, although its turn has ended")

    def _check_references(self, fields: JsonObject) -> None:
        turn = fields.get("turn")
        of_item = _ORDER[self._kind] == "item"
        if turn is not None and turn not in self._turns and not (of_item and (turn == ELSEWHERE or _is_text(turn))):
            raise BadLineError("`turn` is the number of no turn of the session")
        for name in ("item_seq", "output_item_seq"):
            number = fields.get(name)
            if isinstance(number, int) and not 1 <= number <= self._items:
                raise BadLineError(f"`{name}` is the number of no item of the session")
        if fields.get("tool_call") is not None and fields["tool_call"] not in self._calls:
            raise BadLineError("`tool_call` is the id of no call of the session")


def _nothing_more(_fields: JsonObject) -> None:
    """For kinds that have no rules of their own."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in cast("list[object]", value))


def _check_id(fields: Mapping[str, object]) -> None:
    given = str(fields["public_id"])
    try:
        canonical = parse_id(given)
    except ValueError as error:
        raise BadLineError(f"`public_id`: {error}") from error
    if canonical != given:
        raise BadLineError("`public_id` is not written the way codexdb writes it")


def _check_value(kind: str, field: Field, value: object) -> None:
    if value is None:
        if not field.nullable:
            raise BadLineError(f"`{field.name}` is null")
        return
    if type(value) not in field.types:
        raise BadLineError(f"`{field.name}` has the wrong type")
    if isinstance(value, int) and not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        raise BadLineError(f"`{field.name}` is out of bounds")
    if field.json:
        _check_json(kind, field, cast("str", value))


def _check_json(kind: str, field: Field, value: str) -> None:
    try:
        found = decode(value)
    except ValueError as error:
        raise BadLineError(f"`{field.name}` holds no valid JSON") from error
    if (kind, field.name) in _LISTS:
        if not _is_list_of_objects(found):
            raise BadLineError(f"`{field.name}` is no array of objects")
    elif not isinstance(found, dict):
        raise BadLineError(f"`{field.name}` is no object")

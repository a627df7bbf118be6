"""What happened in a rollout, as the rows that codexdb would have written of it."""

from collections import Counter
from typing import cast

from codexdb.agent.compaction import compaction_item, visible
from codexdb.cli.moving.rollout_items import is_context, outcome, sendable
from codexdb.domain import event
from codexdb.domain.ids import derived_id
from codexdb.domain.item import Item, function_call_output, rollout_record, texts
from codexdb.domain.json import JsonObject, encode
from codexdb.service.content import content_hash
from codexdb.store.calls import UNKNOWN

ATTEMPT = 1  # of every turn: Codex does not count them
ENDED_LATER = "imported"  # why a turn ended of whose end the file does not tell
TITLE_CHARS = 200


class Conversation:
    """Turns, items, calls, events and accounts of a session, in the order in which its file tells of them.

    Each turn ends once, each call gets an output, and what no endpoint takes is a record that the model does not see.
    """

    def __init__(self, seed: str, session_events: list[event.Event], at_ms: int) -> None:
        self._seed = seed
        self.at_ms = at_ms  # of what is being told
        self.turns: list[JsonObject] = []
        self.inputs: list[JsonObject] = []
        self.items: list[JsonObject] = []
        self.calls: list[JsonObject] = []
        self.requests: list[JsonObject] = []
        self.events: list[JsonObject] = []
        self.unseen: Counter[str] = Counter()  # types of what the model does not see
        self.title: str | None = None
        self.epoch = 0
        self._epochs: list[list[Item]] = [[]]  # what the model sees, from each summary on
        self._begins: list[tuple[int, int]] = []  # of each turn: which of those, and how much of it stood there
        self._turn: JsonObject | None = None
        self._told_of = False  # whether the file says where the turn ends
        self._has_message = False
        self._open: dict[str, JsonObject] = {}  # calls without an output
        self._error: str | None = None
        for each in session_events:
            self._event(each)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def begin(self, submission_id: str | None = None) -> None:
        """A turn begins; `submission_id` where the file says so, and will say where it ends."""
        self.close()
        number = len(self.turns) + 1
        self._turn = {
            "public_id": self._id("turn", number),
            "number": number,
            "state": "completed",
            "attempt": ATTEMPT,
            "crashes": 0,
            "submission_id": submission_id or str(number),
            "settings": None,
            "trace_context": None,
            "interrupt_requested_at_ms": None,
            "retry_at_ms": None,
            "end_reason": "answered",
            "error_kind": None,
            "error_message": None,
            "last_agent_message": None,
            "created_at_ms": self.at_ms,
            "started_at_ms": self.at_ms,
            "ended_at_ms": self.at_ms,
        }
        self.turns.append(self._turn)
        self._told_of, self._has_message, self._error = submission_id is not None, False, None
        self._begins.append((len(self._epochs) - 1, len(self._epochs[-1])))
        self._event(event.task_started())

    def complete(self, message: str | None = None) -> None:
        """The turn's end as the file tells it; a failure that was told before is its reason."""
        turn = self._turn
        if turn is None:
            return
        if self._error is not None and not message:
            turn |= {"state": "failed", "end_reason": "model_error", "error_kind": "model_error"}
            self._end(turn | {"error_message": self._error}, event.error(self._error))
            return
        said = message or cast("str | None", turn["last_agent_message"])
        self._end(turn | {"last_agent_message": said}, event.task_complete(said))

    def interrupt(self, reason: str = "requested") -> None:
        """The turn was ended before it was done."""
        if self._turn is not None:
            changes: JsonObject = {"state": "interrupted", "end_reason": reason, "last_agent_message": None}
            self._end(self._turn | changes, event.error(event.INTERRUPTED_MESSAGE))

    def fail(self, message: str) -> None:
        """Something failed for good, unless an answer follows."""
        self._error = message or "the turn failed"

    def close(self) -> None:
        """End a turn of whose end the file does not tell: it is complete if the model had the last word."""
        if self._turn is None:
            return
        if self._error is not None or (self._turn["last_agent_message"] is not None and not self._open):
            self.complete()
        else:
            self.interrupt(ENDED_LATER)

    def _end(self, ended: JsonObject, last: event.Event) -> None:
        self._close_calls()
        self._event(last)
        turn = cast("JsonObject", self._turn)
        turn.update(ended)
        turn["ended_at_ms"] = self.at_ms
        self._turn = None

    # -- items ---------------------------------------------------------------------------------------------------------

    def item(self, payload: JsonObject, number: int) -> None:
        """An item of the file's line `number`."""
        item = sendable(payload, number)
        if item is None:
            self.record(payload)
        elif item["type"] == "function_call_output":
            self._output(item, payload)
        elif is_context(item):
            self._item(item, of_turn=False)
        elif item.get("role") == "user":
            self._message(item)
        else:
            self._answer(item)

    def record(self, payload: JsonObject) -> None:
        """Keep what the model has no use for."""
        kind = payload.get("type")
        self.unseen[kind[:80] if isinstance(kind, str) else "no type"] += 1
        self._item(rollout_record(payload))

    def summary(self, message: str, replacement: list[Item] | None) -> None:
        """From here on the model sees a summary, or other items, instead of all before."""
        self._close_calls()
        seen = self._epochs[-1]
        item = compaction_item(seen, message)
        if replacement is not None:
            item["replacement"] = replacement
        self.epoch += 1
        self._epochs.append(visible([item]))
        self._item(item, seen=False)

    def roll_back(self, turns: int) -> None:
        """The model does not see the last turns any more."""
        self.close()
        if not 0 < turns <= len(self._begins):
            return
        epoch, length = self._begins[-turns]
        self.summary("", self._epochs[epoch][:length])

    def context(self, item: Item) -> None:
        """Tell the model something outside of any turn."""
        self._item(item, of_turn=False)

    def _message(self, item: Item) -> None:
        if self._turn is None or not self._told_of:
            self.begin()
        content = [_as_sent(part) for part in cast("list[JsonObject]", item["content"])]
        mode = "steer" if self._has_message else "start"
        text = "\n".join(texts(item))
        self._has_message = True
        self.inputs.append(
            {
                "public_id": self._id("input", len(self.inputs)),
                "turn": len(self.turns),
                "message_id": None,
                "opens_session": 0,
                "mode": mode,
                "outcome": "steered" if mode == "steer" else "started",
                "content": encode(content),
                "content_hash": content_hash(content),
                "item": None,
                "created_at_ms": self.at_ms,
                "delivered_at_ms": self.at_ms,
                "withdrawn_at_ms": None,
            }
        )
        self.title = self.title or " ".join(text.split())[:TITLE_CHARS] or None
        self._item(item)
        self._event(event.Event("user_message", {"type": "user_message", "message": text}))

    def _answer(self, item: Item) -> None:
        """A message, a reasoning or a call of the model."""
        if self._turn is None:
            self.begin()
        if item.get("call_id") in self._open:  # one name for two calls: whose output is to come cannot be told
            self._close_calls()
        self._item(item)
        turn = cast("JsonObject", self._turn)
        if item["type"] == "message":
            turn["last_agent_message"] = "\n".join(texts(item))
            self._event(event.agent_message("\n".join(texts(item))))
        elif item["type"] == "reasoning":
            for part in cast("list[JsonObject]", item.get("summary", [])):
                self._event(event.agent_reasoning(str(part.get("text", ""))))
        else:
            self._call(item)

    def _call(self, item: Item) -> None:
        call: JsonObject = {
            "public_id": self._id("call", len(self.calls)),
            "turn": len(self.turns),
            "item_seq": len(self.items),
            "output_item_seq": None,
            "call_id": item["call_id"],
            "name": item["name"],
            "arguments": item["arguments"],
            "state": "unknown",
            "attempt": ATTEMPT,
            "pid": None,
            "pid_started_at": None,
            "exit_code": None,
            "output": None,
            "proposed_at_ms": self.at_ms,
            "started_at_ms": self.at_ms,
            "ended_at_ms": self.at_ms,
        }
        self.calls.append(call)
        self._open[str(item["call_id"])] = call

    def _output(self, item: Item, payload: JsonObject) -> None:
        call = self._open.pop(str(item["call_id"]), None)
        if call is None:  # endpoints refuse an output without its call
            self.record(payload)
            return
        told = outcome(str(item["output"]))
        self._item(item)
        call |= {
            "state": "failed" if told.failed else "succeeded",
            "exit_code": told.exit_code,
            "output": told.output,
            "output_item_seq": len(self.items),
            "ended_at_ms": self.at_ms,
        }

    def _close_calls(self) -> None:
        """Calls of which no output is told: what became of them is unknown, and the model is told so."""
        for call_id, call in self._open.items():
            self._item(function_call_output(call_id, UNKNOWN))
            call |= {"output_item_seq": len(self.items), "ended_at_ms": self.at_ms}
        self._open = {}

    def _item(self, item: Item, *, of_turn: bool = True, seen: bool = True) -> None:
        self.items.append(
            {
                "seq": len(self.items) + 1,
                "turn": len(self.turns) if of_turn and self._turn is not None else None,
                "epoch": self.epoch,
                "type": item["type"],
                "role": item.get("role"),
                "payload": encode(item),
                "partial": 0,
                "created_at_ms": self.at_ms,
            }
        )
        if seen:
            self._epochs[-1] += visible([item])

    # -- accounts and events -------------------------------------------------------------------------------------------

    def request(self, usage: JsonObject, model: str, provider: str) -> None:
        """What a request to the model has used."""
        if self._turn is None:
            return
        counts = {name: value if isinstance(value, int) else None for name, value in usage.items()}
        given, made = counts.get("input_tokens"), counts.get("output_tokens")
        if given is None or made is None:
            return
        total = counts.get("total_tokens")
        parts = (given, counts.get("cached_input_tokens"), made, counts.get("reasoning_output_tokens"))
        told = (*parts, given + made if total is None else total)
        names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")
        self.requests.append(
            {
                "turn": len(self.turns),
                "attempt": ATTEMPT,
                "model": model,
                "model_provider": provider,
                "started_at_ms": self.at_ms,
                "first_event_at_ms": None,
                "ended_at_ms": self.at_ms,
                "retries": 0,
                **dict(zip(names, told, strict=True)),
                "error": None,
            }
        )
        self._event(event.token_count(*told))

    def _event(self, new: event.Event) -> None:
        self.events.append(
            {
                "seq": len(self.events) + 1,
                "turn": len(self.turns) if self._turn is not None else None,
                "type": new.type,
                "msg": encode(new.msg),
                "created_at_ms": self.at_ms,
            }
        )

    def _id(self, kind: str, number: int) -> str:
        return derived_id(self.at_ms, self._seed, kind, str(number))


def replacement_of(history: list[object]) -> tuple[list[Item], list[JsonObject]]:
    """The items of a history that Codex put in the place of another, and those that are left out. No call in it is
    without an output, and no output without its call.
    """
    kept: list[Item] = []
    left: list[JsonObject] = []
    pairs = [(payload, sendable(payload, number)) for number, payload in enumerate(map(_object, history), 1)]
    answered = {item["call_id"] for _, item in pairs if item is not None and item["type"] == "function_call_output"}
    called: set[object] = set()
    for payload, item in pairs:
        if item is None or (item["type"] == "function_call_output" and item["call_id"] not in called):
            left.append(payload)
            continue
        kept.append(item)
        if item["type"] == "function_call":
            called.add(item["call_id"])
            if item["call_id"] not in answered:
                kept.append(function_call_output(str(item["call_id"]), UNKNOWN))
    return kept, left


def _object(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _as_sent(part: JsonObject) -> JsonObject:
    """A part of an item as a caller would have sent it."""
    if part["type"] == "input_image":
        return {"type": "image", "image_url": part["image_url"]}
    return {"type": "text", "text": part.get("text", part.get("refusal", ""))}

"""The turn loop: ask the model, record what it says as it says it, run its calls, until it has no more of them.

Every item is appended when it is complete, and every call's intent is committed before it starts. What is already on
record is never asked for again: where a stream breaks off after a complete item, the turn goes on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from codexdb.agent.calls import CallContext, run_call
from codexdb.agent.journal import Journal
from codexdb.agent.model import (
    Finished,
    ItemDone,
    ModelClient,
    ModelRequest,
    ReasoningDelta,
    RequestFailed,
    TextDelta,
    ToolSpec,
)
from codexdb.agent.retry import delay_ms, exhausted, retrying
from codexdb.domain import crash, event
from codexdb.domain.clock import Clock
from codexdb.domain.errors import ModelError
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item, texts
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import RETRY_AFTER_MS_MAX, TOOL_CALLS_PER_RESPONSE_MAX
from codexdb.domain.record import CallProposed, Entry, NewItem, OpenCall, RequestEnded, Usage


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """Everything that a turn is worked with, settled before it begins."""

    session_id: str
    model: str
    instructions: str
    history: Sequence[Item]  # what is on record so far, oldest first, this turn's message included
    tools: Sequence[ToolSpec]
    reasoning: JsonObject | None
    calls: CallContext
    retries_max: int
    open_calls: Sequence[OpenCall] = ()  # of an earlier attempt: made, and not started
    answer: str | None = None  # the last word, where an earlier attempt has it on record
    retry_at_ms: int | None = None  # an earlier attempt was waiting until then


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A call that the model made, as it is on record."""

    id: str
    item: Item


_Queue = Callable[["_Proposal | Item"], None]
_Start = Callable[[], object]


class _Response:
    """What has come in of one response."""

    def __init__(self, started_at_ms: int) -> None:
        self.started_at_ms = started_at_ms
        self.first_event_at_ms: int | None = None
        self.done: list[Item] = []  # complete and on record
        self.outputs: list[Item] = []  # of its calls, in their order
        self.calls = 0
        self.usage: Usage | None = None
        self.failure: RequestFailed | None = None


class TurnLoop:
    """Works one turn to its end. Cancellation ends a running command, records what it printed, and goes on upward."""

    def __init__(self, plan: TurnPlan, journal: Journal, model: ModelClient, clock: Clock) -> None:
        self._plan = plan
        self._journal = journal
        self._model = model
        self._clock = clock
        self._items: list[Item] = list(plan.history)
        self._delta_item = 0  # which unfinished item of this attempt deltas belong to
        self._last_message: str | None = None

    async def run(self) -> str | None:
        """The last thing that the model said, or None where it said nothing.

        Raises:
            ModelError: the endpoint failed for good; everything complete until then is on record.
            CredentialsMissingError: the provider's key is missing.
            FenceLostError: the turn is somebody else's now.
        """
        if await self._go_on():
            return self._last_message
        cut = 0
        while True:
            self._items += await self._journal.steered()
            response = await self._ask_until_answered()
            if response.failure is not None:  # cut after a complete item: go on from it, but not for ever
                cut += 1
                if cut > self._plan.retries_max:
                    raise ModelError(exhausted(response.failure)) from response.failure
            elif response.calls == 0:
                return self._last_message

    async def _go_on(self) -> bool:
        """Pick up what an earlier attempt left: run the calls it had not started, wait out its retry. Whether the turn
        is answered already: its last word is on record, nothing was to follow, and asking again would give another.
        """
        if self._plan.answer is not None:
            self._last_message = self._plan.answer
            return True
        for call in self._plan.open_calls:
            self._items.append(await run_call(self._plan.calls, self._journal, call.id, call.item))
        if self._plan.retry_at_ms is not None and not self._plan.open_calls:
            left_ms = self._plan.retry_at_ms - self._clock.now_ms()  # of a clock that may have been set back meanwhile
            await anyio.sleep(min(max(0, left_ms), RETRY_AFTER_MS_MAX) / 1000)
        return False

    async def _ask_until_answered(self) -> _Response:
        """One response, or as much of one as is worth going on from."""
        retries = 0
        while True:
            response = await self._ask(retries)
            failure = response.failure
            if failure is None:
                return response
            worth_keeping = any(item.get("type") != "reasoning" for item in response.done)
            if worth_keeping:
                return response
            if not failure.again or retries >= self._plan.retries_max:
                raise ModelError(exhausted(failure)) from failure
            retries += 1
            wait_ms = delay_ms(failure, retries)
            notice = event.background_event(retrying(failure, retries, self._plan.retries_max, wait_ms))
            self._journal.append(Entry(events=[notice], retry_at_ms=self._clock.now_ms() + wait_ms))
            await anyio.sleep(wait_ms / 1000)

    async def _ask(self, retries: int) -> _Response:
        """Send one request and take in its response; its calls run, one after another, while it is still being read."""
        response = _Response(self._clock.now_ms())
        proposals, pending = anyio.create_memory_object_stream[_Proposal | Item](TOOL_CALLS_PER_RESPONSE_MAX)
        try:
            async with anyio.create_task_group() as group, proposals:
                await self._read(
                    response, proposals.send_nowait, lambda: group.start_soon(self._work_off, pending, response)
                )
        except BaseExceptionGroup as errors:
            raise _only(errors) from None
        finally:
            pending.close()
        crash.point("response.ended")
        self._items += [*response.done, *response.outputs]
        usage = [_token_count(response.usage)] if response.usage else []
        last = self._last_message if response.failure is None and response.calls == 0 else None
        self._journal.append(Entry(events=usage, request=self._account(response, retries), answer=last))
        return response

    async def _read(self, response: _Response, queue: _Queue, start_runner: _Start) -> None:
        request = ModelRequest(
            session_id=self._plan.session_id,
            model=self._plan.model,
            instructions=self._plan.instructions,
            items=self._items,
            tools=self._plan.tools,
            reasoning=self._plan.reasoning,
        )
        crash.point("request.before")
        stream = self._model.stream(request)
        try:
            async for each in stream:
                if response.first_event_at_ms is None:
                    response.first_event_at_ms = self._clock.now_ms()
                    crash.point("stream.first_event")
                match each:
                    case TextDelta():
                        self._journal.delta(self._delta_item, event.agent_message_delta(each.text))
                    case ReasoningDelta():
                        if not each.raw:
                            self._journal.delta(self._delta_item, event.agent_reasoning_delta(each.text))
                    case ItemDone():
                        self._take_item(response, each, queue, start_runner)
                        crash.point("item.taken")
                    case Usage():
                        response.usage = each
                    case Finished():
                        self._note_ending(each)
        except RequestFailed as failure:
            response.failure = failure

    def _take_item(self, response: _Response, done: ItemDone, queue: _Queue, start_runner: _Start) -> None:
        """Put a complete item on record at once; show it, or run it, when everything before it is done."""
        item = done.item
        response.done.append(item)
        self._delta_item += 1
        if item.get("type") != "function_call":
            if response.calls:
                self._append(items=[NewItem(item)])
                queue(item)
            else:
                shown = self._shown(item)
                last = self._last_message if done.closes else None
                self._journal.append(Entry(items=[NewItem(item)], events=shown, answer=last))
            return
        response.calls += 1
        if response.calls > TOOL_CALLS_PER_RESPONSE_MAX:
            raise ModelError(f"the model made more than {TOOL_CALLS_PER_RESPONSE_MAX} calls in one response")
        proposal = _Proposal(new_id(), item)
        proposed = CallProposed(proposal.id, str(item["call_id"]), str(item["name"]), str(item["arguments"]))
        self._append(items=[NewItem(item)], calls=[proposed])
        if response.calls == 1:
            start_runner()
        queue(proposal)

    async def _work_off(self, pending: MemoryObjectReceiveStream["_Proposal | Item"], response: _Response) -> None:
        """Run the calls in their order, and show in its place what the model said between them."""
        async for each in pending:
            if isinstance(each, _Proposal):
                response.outputs.append(await run_call(self._plan.calls, self._journal, each.id, each.item))
            else:
                self._append(events=self._shown(each))

    def _shown(self, item: Item) -> list[event.Event]:
        """The events of a complete item that is not a call."""
        if item.get("type") == "reasoning":
            return [event.agent_reasoning(text) for text in _summaries(item)]
        messages = texts(item) if item.get("role") == "assistant" else []
        if messages:
            self._last_message = messages[-1]
        return [event.agent_message(text) for text in messages]

    def _note_ending(self, finished: Finished) -> None:
        if finished.reason == "length":
            self._append(events=[event.background_event("The answer was cut off at the model's output limit.")])
        elif finished.reason == "content_filter":
            raise ModelError("the endpoint's content filter stopped the answer")

    def _account(self, response: _Response, retries: int) -> RequestEnded:
        return RequestEnded(
            started_at_ms=response.started_at_ms,
            first_event_at_ms=response.first_event_at_ms,
            ended_at_ms=self._clock.now_ms(),
            usage=response.usage,
            retries=retries,
            error=response.failure.message if response.failure else None,
        )

    def _append(
        self,
        items: Sequence[NewItem] = (),
        events: Sequence[event.Event] = (),
        calls: Sequence[CallProposed] = (),
    ) -> None:
        if items or events or calls:
            self._journal.append(Entry(calls=calls, items=items, events=events))


def _token_count(usage: Usage) -> event.Event:
    return event.token_count(
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_output_tokens,
        usage.total_tokens,
    )


def _summaries(item: Item) -> list[str]:
    parts = item.get("summary")
    if not isinstance(parts, list):
        return []
    found = [cast("JsonObject", part).get("text") for part in cast("list[object]", parts) if isinstance(part, dict)]
    return [text for text in found if isinstance(text, str)]


def _only(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first real error of a group: the reader and the runner of calls share a fate, and one reason is enough."""
    first = errors.exceptions[0]
    return _only(cast("BaseExceptionGroup[BaseException]", first)) if isinstance(first, BaseExceptionGroup) else first

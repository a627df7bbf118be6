"""One request to the model, and its response taken in: every item on record as it is complete, its calls run."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from codexdb.agent.calls.run import run_call
from codexdb.agent.journal import Journal
from codexdb.agent.model import (
    Finished,
    ItemDone,
    ModelClient,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    RequestFailed,
    SectionBreak,
    TextDelta,
)
from codexdb.agent.plan import TurnPlan
from codexdb.agent.wires import shape
from codexdb.domain import crash, event
from codexdb.domain.clock import Clock
from codexdb.domain.errors import ModelError
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item, texts
from codexdb.domain.limits import TOOL_CALLS_PER_RESPONSE_MAX
from codexdb.domain.record import CallProposed, Entry, NewItem, OpenCall, RequestEnded, Usage


class Response:
    """What has come in of one response."""

    def __init__(self, started_at_ms: int) -> None:
        self.started_at_ms = started_at_ms
        self.first_event_at_ms: int | None = None
        self.done: list[Item] = []  # complete and on record
        self.outputs: list[Item] = []  # what its calls gave, in their order
        self.calls = 0
        self.asked = False  # a person has to decide about a call; those behind it wait too
        self.usage: Usage | None = None
        self.failure: RequestFailed | None = None

    @property
    def worth_keeping(self) -> bool:
        """Whether something complete is in it that must not be asked for again."""
        return any(item.get("type") != "reasoning" for item in self.done)


_Queue = Callable[[OpenCall | Item], None]
_Start = Callable[[], object]


class Sampling:
    """Asks for one turn; keep one per attempt, for it counts the unfinished items that deltas belong to."""

    def __init__(self, plan: TurnPlan, journal: Journal, clock: Clock) -> None:
        self._plan = plan
        self._journal = journal
        self._clock = clock
        self._delta_item = 0
        self.last_message: str | None = None  # what the model said last

    async def ask(self, model: ModelClient, items: Sequence[Item], retries: int) -> Response:
        """Send one request and take in its response; its calls run, one after another, while it is still being read.

        A failed request is no exception: `Response.failure` has it. Cancelled, it ends a running command.

        Raises:
            ModelError: the answer cannot be gone on with: too many calls, or the content filter stopped it.
            CredentialsMissingError, FenceLostError: as in `TurnLoop.run`.
        """
        response = Response(self._clock.now_ms())
        self._delta_item += 1  # what a request before this one left unfinished is not gone on with
        proposals, pending = anyio.create_memory_object_stream[OpenCall | Item](TOOL_CALLS_PER_RESPONSE_MAX)
        try:
            async with anyio.create_task_group() as group, proposals:
                await self._read(
                    model.stream(self._request(items)),
                    response,
                    proposals.send_nowait,
                    lambda: group.start_soon(self._work_off, pending, response),
                )
        except BaseExceptionGroup as errors:
            raise _only(errors) from None
        finally:
            pending.close()
        crash.point("response.ended")
        usage = [token_count(response.usage)] if response.usage else []
        last = self.last_message if response.failure is None and response.calls == 0 else None
        account = self.account(response, retries)
        self._journal.append(Entry(events=usage, request=account, answer=last))
        return response

    def account(self, response: Response, retries: int) -> RequestEnded:
        """The row of this request."""
        return RequestEnded(
            model=self._plan.model,
            model_provider=self._plan.model_provider,
            started_at_ms=response.started_at_ms,
            first_event_at_ms=response.first_event_at_ms,
            ended_at_ms=self._clock.now_ms(),
            usage=response.usage,
            retries=retries,
            error=response.failure.message if response.failure else None,
        )

    def _request(self, items: Sequence[Item]) -> ModelRequest:
        crash.point("request.before")
        plan = self._plan
        return ModelRequest(
            session_id=plan.session_id,
            model=plan.model,
            instructions=plan.instructions,
            items=items,
            tools=plan.tools,
            reasoning=plan.reasoning,
            verbosity=plan.verbosity,
            max_output_tokens=plan.max_output_tokens,
        )

    async def _read(
        self, stream: AsyncIterator[ModelEvent], response: Response, queue: _Queue, start_runner: _Start
    ) -> None:
        try:
            async for each in stream:
                if response.first_event_at_ms is None:
                    response.first_event_at_ms = self._clock.now_ms()
                    crash.point("stream.first_event")
                match each:
                    case ItemDone():
                        self._take_item(response, each, queue, start_runner)
                        crash.point("item.taken")
                    case Usage():
                        response.usage = each
                    case Finished():
                        self._note_ending(each)
                    case _:
                        self._show_delta(each)
        except RequestFailed as failure:
            response.failure = failure

    def _show_delta(self, delta: TextDelta | ReasoningDelta | SectionBreak) -> None:
        match delta:
            case TextDelta():
                self._journal.delta(self._delta_item, event.agent_message_delta(delta.text))
            case ReasoningDelta(raw=True):
                if self._plan.show_raw_reasoning:
                    self._journal.delta(self._delta_item, event.agent_reasoning_raw_content_delta(delta.text))
            case ReasoningDelta():
                if self._plan.show_reasoning:
                    self._journal.delta(self._delta_item, event.agent_reasoning_delta(delta.text))
            case SectionBreak():
                if self._plan.show_reasoning:
                    self._journal.delta(self._delta_item, event.agent_reasoning_section_break())

    def _take_item(self, response: Response, done: ItemDone, queue: _Queue, start_runner: _Start) -> None:
        """Put a complete item on record at once; show it, or run it, when everything before it is done."""
        item, finished = done.item, self._delta_item
        response.done.append(item)
        self._delta_item += 1
        if item.get("type") == "function_call":
            self._take_call(response, item, finished, queue, start_runner)
        elif response.calls:
            self._journal.append(Entry(items=[NewItem(item)], delta_item=finished))
            queue(item)
        else:
            shown = self._shown(item)
            last = self.last_message if done.closes else None
            self._journal.append(Entry(items=[NewItem(item)], events=shown, answer=last, delta_item=finished))

    def _take_call(self, response: Response, item: Item, finished: int, queue: _Queue, start_runner: _Start) -> None:
        response.calls += 1
        if response.calls > TOOL_CALLS_PER_RESPONSE_MAX:
            raise ModelError(f"the model made more than {TOOL_CALLS_PER_RESPONSE_MAX} calls in one response")
        proposal = OpenCall(new_id(), item)
        proposed = CallProposed(proposal.id, str(item["call_id"]), str(item["name"]), str(item["arguments"]))
        self._journal.append(Entry(items=[NewItem(item)], calls=[proposed], delta_item=finished))
        if response.calls == 1:
            start_runner()
        queue(proposal)

    async def _work_off(self, pending: MemoryObjectReceiveStream[OpenCall | Item], response: Response) -> None:
        """Run the calls in their order, and show in its place what the model said between them."""
        async for each in pending:
            if not isinstance(each, OpenCall):
                if shown := self._shown(each):
                    self._journal.append(Entry(events=shown))
            elif not response.asked:
                given = await run_call(self._plan.calls, self._journal, each)
                response.asked = given is None
                response.outputs += given or ()

    def _shown(self, item: Item) -> list[event.Event]:
        """The events of a complete item that is not a call."""
        if item.get("type") == "reasoning":
            summaries = [event.agent_reasoning(text) for text in _texts_of(item, "summary")]
            raw = [event.agent_reasoning_raw_content(text) for text in _texts_of(item, "content")]
            return [*(summaries if self._plan.show_reasoning else []), *(raw if self._plan.show_raw_reasoning else [])]
        messages = texts(item) if item.get("role") == "assistant" else []
        if messages:
            self.last_message = messages[-1]
        return [event.agent_message(text) for text in messages]

    def _note_ending(self, finished: Finished) -> None:
        if finished.reason == "length":
            notice = event.background_event("The answer was cut off at the model's output limit.")
            self._journal.append(Entry(events=[notice]))
        elif finished.reason == "content_filter":
            raise ModelError("the endpoint's content filter stopped the answer")


def token_count(usage: Usage) -> event.Event:
    """The event that tells the usage of one request."""
    return event.token_count(
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_output_tokens,
        usage.total_tokens,
    )


def _texts_of(item: Item, name: str) -> list[str]:
    found = [shape.obj(part).get("text") for part in shape.array(item.get(name))]
    return [text for text in found if isinstance(text, str)]


def _only(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first real error of a group: the reader and the runner of calls share a fate, and one reason is enough."""
    first = errors.exceptions[0]
    return _only(cast("BaseExceptionGroup[BaseException]", first)) if isinstance(first, BaseExceptionGroup) else first

"""The request that has a session summarised, and what becomes of its answer."""

from collections.abc import Sequence

from codexdb.agent import compaction, failure
from codexdb.agent.history import History
from codexdb.agent.journal import Journal
from codexdb.agent.model import Finished, ItemDone, ModelClient, ModelRequest, RequestFailed
from codexdb.agent.plan import TurnPlan
from codexdb.agent.sampling import Response, Sampling, token_count
from codexdb.domain import crash, event
from codexdb.domain.clock import Clock
from codexdb.domain.item import Item, texts
from codexdb.domain.record import Entry, NewItem, Usage

DONE = "The conversation was summarised."  # the answer to whoever asked for nothing else
NOTHING = "There is nothing to summarise."  # the same, where the model was not asked
NOTICE = "The conversation was summarised to make room; everything before stays on record."


class Summariser:
    """Asks for one summary. Nothing of the answer is on record until all of it is there, so that a kill repeats it."""

    def __init__(self, plan: TurnPlan, journal: Journal, clock: Clock) -> None:
        self._plan = plan
        self._journal = journal
        self._clock = clock
        self._sampling = Sampling(plan, journal, clock)
        self._items: Sequence[Item] | None = None  # what is left of the conversation, where all of it was too long

    async def ask(self, model: ModelClient, history: History, retries: int) -> Response:
        """One try. Where it succeeds, the summary is queued to be committed, and `history` goes on from it."""
        response = Response(self._clock.now_ms())
        source = history.items if self._items is None else self._items
        self._items = source
        text = ""
        try:
            text = await self._read(model, source, response)
        except RequestFailed as failed:
            response.failure = failed
        if response.failure is not None:
            self._journal.append(Entry(request=self._sampling.account(response, retries)))
            return response
        item = compaction.compaction_item(history.items, text, self._plan.compaction.limit)
        told = [token_count(response.usage)] if response.usage else []
        told.append(event.agent_message(DONE) if self._plan.compaction.only else event.background_event(NOTICE))
        self._journal.append(
            Entry(
                items=[NewItem(item)],
                events=told,
                request=self._sampling.account(response, retries),
                answer=DONE if self._plan.compaction.only else None,
            )
        )
        await self._journal.settle()
        crash.point("compaction.committed")
        history.replace(compaction.replacement(item))
        return response

    def shorten(self) -> bool:
        """Leave the oldest part out of the next try. False: there is nothing left to leave out."""
        self._items = compaction.shortened(self._items or ())
        return self._items is not None

    async def _read(self, model: ModelClient, items: Sequence[Item], response: Response) -> str:
        crash.point("compaction.before")
        request = ModelRequest(
            session_id=self._plan.session_id,
            model=self._plan.model,
            instructions=self._plan.instructions,
            items=compaction.request_items(items, self._plan.compaction.prompt),
            tools=(),
            reasoning=self._plan.reasoning,
        )
        said: list[str] = []
        async for each in model.stream(request):
            if response.first_event_at_ms is None:
                response.first_event_at_ms = self._clock.now_ms()
            match each:
                case ItemDone() if each.item.get("role") == "assistant":
                    said += texts(each.item)
                case Usage():
                    response.usage = each
                case Finished(reason="content_filter"):
                    raise failure.lost("the endpoint's content filter stopped the summary", again=False)
                case _:
                    pass
        if not "".join(said).strip():
            raise failure.lost("the model gave an empty summary")
        return "\n".join(said)

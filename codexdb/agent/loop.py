"""The turn loop: ask the model, run its calls, ask again, until it has no more of them.

What is already on record is never asked for again: where a stream breaks off after a complete item, the turn goes on
from there.
"""

from codexdb.agent import compaction
from codexdb.agent.calls.run import run_call
from codexdb.agent.history import History
from codexdb.agent.journal import Journal
from codexdb.agent.model import ModelClient, RequestFailed
from codexdb.agent.plan import TurnPlan
from codexdb.agent.retry import delay_ms, exhausted, retrying
from codexdb.agent.sampling import Response, Sampling
from codexdb.agent.summary import DONE, NOTHING, Summariser
from codexdb.domain import event
from codexdb.domain.clock import Clock
from codexdb.domain.errors import BudgetExhaustedError, ModelError
from codexdb.domain.limits import RETRY_AFTER_MS_MAX
from codexdb.domain.record import Entry


class Asked(Exception):  # noqa: N818 - an outcome of a turn's attempt, not a fault
    """A person has to decide before the turn can go on; everything until then is on record."""


class TurnLoop:
    """Works one turn to its end. Cancellation ends a running command, records what it printed, and goes on upward."""

    def __init__(self, plan: TurnPlan, journal: Journal, model: ModelClient, clock: Clock) -> None:
        self._plan = plan
        self._journal = journal
        self._model = model
        self._clock = clock
        self._history = History(plan.history, plan.known_tokens, plan.uncounted)
        self._sampling = Sampling(plan, journal, clock)
        self._requests = plan.left_off.spent.requests
        self._tokens = plan.left_off.spent.tokens
        self._began_at_ms = clock.monotonic_ms()
        self._renewed = False
        self._retries = 0  # of the step that is being worked: since the last complete response
        self._shortened = False  # in that step

    async def run(self) -> str | None:
        """The last thing that the model said, or None where it said nothing.

        Raises:
            Asked: a person has to decide first.
            ModelError: the endpoint failed for good; everything complete until then is on record.
            BudgetExhaustedError: the turn has used up what it may.
            CredentialsMissingError: the provider's key is missing.
            FenceLostError: the turn is somebody else's now.
        """
        if self._plan.left_off.answer is not None:  # all of it is on record: asking again would give another
            return self._plan.left_off.answer
        await self._go_on()
        if self._plan.compaction.only:
            return await self._only_compact()
        while True:
            self._history.add(await self._journal.steered())
            if self._is_long():
                await self._compact()
                self._history.add(await self._journal.steered())  # what came meanwhile
            response = await self._ask_until_answered()
            if response.asked:
                raise Asked
            if response.failure is not None:  # cut after a complete item: go on from it, but not for ever
                await self._recover(response.failure)
            elif response.calls == 0:
                return self._sampling.last_message
            else:
                self._retries, self._shortened = 0, False

    async def _go_on(self) -> None:
        """Pick up what an earlier attempt left: run the calls that it had not started, wait out its retry."""
        left, calls = self._plan.left_off, self._plan.calls
        if told := await calls.diff.tell(calls.settings.cwd, calls.keep_off):  # a kill may have come between the two
            self._journal.append(Entry(events=told))
        for call in left.open_calls:
            given = await run_call(calls, self._journal, call)
            if given is None:
                raise Asked
            self._history.add(given)
        if left.retry_at_ms is not None and not left.open_calls:
            left_ms = left.retry_at_ms - self._clock.now_ms()  # of a clock that may have been set back meanwhile
            await self._clock.sleep(min(max(0, left_ms), RETRY_AFTER_MS_MAX))

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _ask_until_answered(self) -> Response:
        """One response, or as much of one as is worth going on from."""
        while True:
            response = await self._ask()
            if response.failure is None or response.worth_keeping:
                return response
            await self._recover(response.failure)

    async def _ask(self) -> Response:
        self._check_budget()
        response = await self._sampling.ask(self._model, self._history.items, self._retries)
        self._note_spent(response)
        if response.failure is None or response.worth_keeping:  # else nothing that the model may be reminded of
            self._history.add(response.done, (response.usage.total_tokens or None) if response.usage else None)
            self._history.add(response.outputs)
        return response

    async def _recover(self, failure: RequestFailed) -> None:
        """Do what makes it worth asking again: summarise, take a new key, or wait.

        Raises:
            ModelError: nothing does.
        """
        if failure.too_long and not self._shortened:
            self._shortened = True
            await self._compact()
        elif not self._renew(failure):
            self._retries += 1
            await self._wait_to_retry(failure, self._retries)

    async def _wait_to_retry(self, failure: RequestFailed, retry: int) -> None:
        """Say so, put it on record, and wait.

        Raises:
            ModelError: no further retry is due.
        """
        if not failure.again or retry > self._plan.retries_max:
            raise ModelError(exhausted(failure)) from failure
        wait_ms = delay_ms(failure, retry)
        notice = event.background_event(retrying(failure, retry, self._plan.retries_max, wait_ms))
        self._journal.append(Entry(events=[notice], retry_at_ms=self._clock.now_ms() + wait_ms))
        await self._journal.settle()  # so that a kill does not shorten the wait
        await self._clock.sleep(wait_ms)

    def _renew(self, failure: RequestFailed) -> bool:
        """Whether a refused key is worth another try: once a turn, with what config.toml says by now."""
        if failure.status != 401 or self._renewed or self._plan.renew is None:
            return False
        self._renewed = True
        renewed = self._plan.renew()
        self._model = renewed or self._model
        return renewed is not None

    # -- budget --------------------------------------------------------------------------------------------------------

    def _check_budget(self) -> None:
        budget = self._plan.budget
        seconds = (self._clock.monotonic_ms() - self._began_at_ms) // 1000
        for name, used, allowed in (
            ("model requests", self._requests, budget.requests),
            ("tokens", self._tokens, budget.tokens),
            ("seconds", seconds, budget.seconds),
        ):
            if allowed is not None and used >= allowed:
                raise BudgetExhaustedError(
                    f"The turn has used up its budget of {allowed} {name}. Send a message, and it is gone on with."
                )

    def _note_spent(self, response: Response) -> None:
        self._requests += 1
        self._tokens += response.usage.total_tokens if response.usage else 0

    # -- summaries -----------------------------------------------------------------------------------------------------

    def _is_long(self) -> bool:
        limit = self._plan.compaction.limit
        if limit is None or self._history.tokens < limit:
            return False
        return compaction.is_worth_it(self._history.items, limit)

    async def _only_compact(self) -> str:
        if not compaction.is_empty(self._history.items):
            await self._compact()
            return DONE
        self._journal.append(Entry(events=[event.agent_message(NOTHING)], answer=NOTHING))
        return NOTHING

    async def _compact(self) -> None:
        """Have the conversation summarised, and go on from the summary. A failure of that request is the turn's own."""
        summariser = Summariser(self._plan, self._journal, self._clock)
        retries = 0
        while True:
            self._check_budget()
            response = await summariser.ask(self._model, self._history, retries)
            self._note_spent(response)
            failure = response.failure
            if failure is None:
                return
            if not (failure.too_long and summariser.shorten()) and not self._renew(failure):
                retries += 1
                await self._wait_to_retry(failure, retries)

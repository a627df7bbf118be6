"""Tells those who follow a session what was committed to it by this process, in the order of the commits."""

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import anyio

from codexdb.domain.event import ApprovalsChanged, CommittedEvent, Delta, TurnSuspended
from codexdb.domain.limits import SUBSCRIPTION_EVENTS_MAX
from codexdb.domain.worker import Claim, InterruptRequest, WorkWaiting

News = CommittedEvent | Delta | TurnSuspended | ApprovalsChanged


class Subscription:
    """What happened to one session since the subscription began, not yet taken."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._wake = anyio.Event()
        self.overflowed = False  # something was dropped: read the events back from the database, by seq

    def put(self, news: News) -> None:
        """Called by the feed. Never blocks: beyond the bound, the follower has to read the rows."""
        if len(self._news) >= SUBSCRIPTION_EVENTS_MAX:
            self._news.clear()
            self.overflowed = True
        self._news.append(news)
        self._wake.set()

    def nudge(self) -> None:
        """Something may have been committed elsewhere: read the rows."""
        self.overflowed = True
        self._wake.set()

    async def take(self) -> list[News]:
        """Wait until there is something, then take all of it; maybe nothing, where `overflowed` says to read the rows.
        That is for the taker to reset.
        """
        while not self._news and not self.overflowed:
            self._wake = anyio.Event()
            await self._wake.wait()
        taken = list(self._news)
        self._news.clear()
        return taken


class Feed:
    """All of it happens on the event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[Subscription]] = {}
        self.claims: deque[Claim] = deque()
        self.interrupts: deque[InterruptRequest] = deque()
        self.work_waiting = False  # turns may wait for a worker, or for an interrupt that another process asked for
        self._work = anyio.Event()

    @contextmanager
    def subscribe(self, session_id: str) -> Generator[Subscription]:
        """Follow a session; it need not exist yet. What commits from now on is seen."""
        subscription = Subscription()
        self._subscriptions.setdefault(session_id, []).append(subscription)
        try:
            yield subscription
        finally:
            followers = self._subscriptions[session_id]
            followers.remove(subscription)
            if not followers:
                del self._subscriptions[session_id]

    def announce(self, announcements: Sequence[News | Claim | InterruptRequest | WorkWaiting]) -> None:
        """Hand on what was committed (or, for deltas, what was merely seen)."""
        for each in announcements:
            if isinstance(each, Claim):
                self.claims.append(each)
            elif isinstance(each, InterruptRequest):
                self.interrupts.append(each)
            elif isinstance(each, WorkWaiting):
                self.work_waiting = True
            else:
                for subscription in self._subscriptions.get(each.session_id, ()):
                    subscription.put(each)
        if self.claims or self.interrupts or self.work_waiting:
            self._work.set()

    def nudge(self) -> None:
        """Another process has committed something: everybody here looks again."""
        for followers in self._subscriptions.values():
            for subscription in followers:
                subscription.nudge()
        self.nudge_worker()

    def nudge_worker(self) -> None:
        """The worker looks for turns that wait."""
        self.work_waiting = True
        self._work.set()

    async def wait_for_work(self) -> None:
        """Return once there are claims, interrupts, or reason to look for them. One waiter: the worker."""
        while not (self.claims or self.interrupts or self.work_waiting):
            self._work = anyio.Event()
            await self._work.wait()

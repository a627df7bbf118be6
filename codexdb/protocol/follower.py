"""One ordered renderer per session and connection: writes the events of the turns that its client started, or
streams.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import anyio
from anyio.abc import TaskGroup

from codexdb.domain.event import ApprovalsChanged, CommittedEvent, Delta, TurnSuspended
from codexdb.protocol.asking import Asker
from codexdb.protocol.connection import Connection
from codexdb.protocol.render import RequestId, delta_line, event_line
from codexdb.service.sessions import SessionService
from codexdb.store.feed import News, Subscription


class TurnWatch:
    """A turn whose events this client is shown. `ended` resolves after the terminal event was written,
    or with None when the turn was suspended.
    """

    def __init__(self, turn_id: str, request_id: RequestId, on_event: Callable[[CommittedEvent], None] | None) -> None:
        self.turn_id = turn_id
        self.request_id = request_id
        self.on_event = on_event
        self.ended: asyncio.Future[CommittedEvent | None] = asyncio.get_running_loop().create_future()

    def end(self, event: CommittedEvent | None) -> None:
        """None: the turn did not end, but nobody here works on it any more."""
        if not self.ended.done():
            self.ended.set_result(event)


class Follower:
    """What one client sees of one session. Nothing is shown while a message of its own is being accepted, so that the
    acknowledgement comes first.
    """

    def __init__(
        self,
        session_id: str,
        subscription: Subscription,
        connection: Connection,
        service: SessionService,
        asker: Asker,
        *,
        others_work: bool,
    ) -> None:
        self._asker = asker
        self._others_work = others_work
        self._session_id = session_id
        self._subscription = subscription
        self._connection = connection
        self._service = service
        self._watches: dict[str, TurnWatch] = {}
        self._session_request: RequestId = None  # the call under which the session's own events are shown
        self._streaming = False
        self._last_seq = 0
        self._accepting = 0
        self._accepted = anyio.Event()

    @property
    def needed(self) -> bool:
        return bool(self._watches) or self._streaming or self._accepting > 0

    @contextmanager
    def accepting(self) -> Generator[None]:
        """Hold back what comes while a message is being accepted."""
        self._accepting += 1
        try:
            yield
        finally:
            self._accepting -= 1
            self._accepted.set()

    def watch(
        self,
        turn_id: str,
        request_id: RequestId,
        *,
        opened_session: bool = False,
        on_event: Callable[[CommittedEvent], None] | None = None,
    ) -> TurnWatch:
        """Show this turn's events from its first one on. To be called within `accepting`."""
        watch = self._watches[turn_id] = TurnWatch(turn_id, request_id, on_event)
        if opened_session:
            self._session_request = request_id
        return watch

    def stream(self, after_seq: int) -> None:
        """Show every event with a higher number, of whatever turn."""
        self._streaming = True
        self._last_seq = max(self._last_seq, after_seq)

    def suspend(self) -> None:
        """Nobody here waits for the turns any longer."""
        for watch in self._watches.values():
            watch.end(None)

    async def pump(self) -> None:
        """Show what comes until nobody needs it any more."""
        while self.needed:
            news = await self._subscription.take()
            while self._accepting:
                self._accepted = anyio.Event()
                await self._accepted.wait()
            if self._subscription.overflowed:
                await self._catch_up()
                await self._asker.look(self._session_id, None)  # another process may have asked, or taken the answer
            for each in news:
                await self._show(each)

    async def _catch_up(self) -> None:
        """Too much came at once and was dropped: read the rows instead, in pages."""
        self._subscription.overflowed = False
        session = await self._service.find(self._session_id)
        while session is not None:
            page = await self._service.events_after(session, self._last_seq)
            for event in page:
                await self._show(event)
            if not page:
                return

    async def _show(self, each: News) -> None:
        if isinstance(each, TurnSuspended):
            if not self._others_work and each.turn_id in self._watches:
                self._watches[each.turn_id].end(None)
            return
        if isinstance(each, ApprovalsChanged):
            watch = self._watches.get(each.turn_id)
            if watch is not None or self._streaming:
                await self._asker.look(self._session_id, watch.request_id if watch else None)
            return
        if isinstance(each, Delta):
            watch = self._watches.get(each.turn_id)
            if watch is not None or self._streaming:
                await self._connection.send_event(delta_line(each, watch.request_id if watch else None))
            return
        if each.seq <= self._last_seq:
            return
        self._last_seq = each.seq
        watch = self._watches.get(each.turn_id) if each.turn_id is not None else None
        request_id = watch.request_id if watch else self._session_request if each.turn_id is None else None
        if request_id is not None or self._streaming:
            await self._connection.send_event(event_line(each, request_id))
        if watch is not None:
            self._tell(watch, each)

    def _tell(self, watch: TurnWatch, event: CommittedEvent) -> None:
        if watch.on_event is not None:
            watch.on_event(event)
        if event.ends_turn:
            del self._watches[watch.turn_id]
            watch.end(event)


class Followers:
    """All followers of one connection; each lives as long as it is needed.

    `others_work`: this process gives up every turn that it accepts, and its callers wait for whoever takes it.
    """

    def __init__(
        self, connection: Connection, service: SessionService, group: TaskGroup, *, others_work: bool = False
    ) -> None:
        self._others_work = others_work
        self.asker = Asker(connection, service, group)
        self._connection = connection
        self._service = service
        self._group = group
        self._followers: dict[str, Follower] = {}
        self._joined: dict[Subscription, bool] = {}  # whether it is not to be waited for any longer

    @contextmanager
    def accepting(self, session_id: str) -> Generator[Follower]:
        """The follower of a session, already subscribed, holding back until the block is left."""
        follower = self._followers.get(session_id)
        if follower is not None:
            with follower.accepting():
                yield follower
            return
        following = self._service.follow(session_id)
        follower = Follower(
            session_id,
            following.__enter__(),
            self._connection,
            self._service,
            self.asker,
            others_work=self._others_work,
        )
        self._followers[session_id] = follower
        try:
            with follower.accepting():
                yield follower
        finally:
            self._group.start_soon(self._pump, session_id, follower, following)

    def suspend(self) -> None:
        """Have every call that waits for a turn at this moment answered: this process goes down."""
        for follower in self._followers.values():
            follower.suspend()
        for subscription in self._joined:
            self._joined[subscription] = True
            subscription.nudge()

    @contextmanager
    def joining(self, session_id: str) -> Generator[Subscription]:
        """What happens to a session whose turn somebody waits for that is not this client's. Ask `lets_go` too."""
        with self._service.follow(session_id) as subscription:
            self._joined[subscription] = False
            try:
                yield subscription
            finally:
                del self._joined[subscription]

    def lets_go(self, joined: Subscription) -> bool:
        """Whether its turn is not to be waited for any longer."""
        return self._joined[joined]

    async def _pump(self, session_id: str, follower: Follower, following: AbstractContextManager[Subscription]) -> None:
        try:
            await follower.pump()
        finally:
            if self._followers.get(session_id) is follower:
                del self._followers[session_id]
            following.__exit__(None, None, None)

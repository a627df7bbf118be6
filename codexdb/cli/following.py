"""Following a session live, whoever works on it: its rows are the news."""

import select
import signal
import sys
from collections.abc import Sequence

import anyio
import anyio.to_thread

from codexdb.cli.finding import find_id
from codexdb.cli.opening import run_with_store
from codexdb.cli.turn_view import JsonLines, Screen, TurnView
from codexdb.domain.errors import CodexDBError, SessionNotFoundError
from codexdb.domain.event import CommittedEvent
from codexdb.domain.item import texts
from codexdb.domain.json import decode_object
from codexdb.domain.limits import PAGE_ROWS_MAX
from codexdb.store import pages
from codexdb.store.database import Store
from codexdb.store.pages import SessionRow

LOOK_MS = 1_000  # how often the rows are asked where nobody tells of a commit, and the reader's end is looked at


def tail(db: str | None, session: str, *, until_idle: bool, as_json: bool) -> int:
    """Show a session's last turn, and everything that comes, until SIGINT or SIGTERM; with `until_idle`, until no turn
    is open. Returns the exit code.
    """

    async def follow(store: Store) -> None:
        session_id = await find_id(store.readers, session)
        failure: CodexDBError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_end_on_signal, group.cancel_scope)
            try:
                await _Follower(store, session_id, as_json=as_json).run(until_idle=until_idle)
            except CodexDBError as error:  # told in here, before the task group wraps it up
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    run_with_store(db, follow)
    return 0


async def _end_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose other end is closed."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class _Follower:
    """Shows each event once, in order; every turn as `exec` shows one."""

    def __init__(self, store: Store, session_id: str, *, as_json: bool) -> None:
        self._store = store
        self._session_id = session_id
        self._as_json = as_json
        self._seq: int | None = None
        self._turn_id: str | None = None
        self._view: TurnView = self._new_view()

    async def run(self, *, until_idle: bool) -> None:
        """Look now and whenever something may have been committed, until nobody reads any more.

        Raises:
            SessionNotFoundError: the session was deleted.
        """
        with self._store.feed.subscribe(self._session_id) as subscription:
            while not _nobody_reads():
                subscription.overflowed = False
                row = await pages.session(self._store.readers, self._session_id)
                if row is None:
                    raise SessionNotFoundError(f"Session {self._session_id} was deleted.")
                await self._show_new(row)
                if until_idle and row.running_turn_id is None:
                    break
                with anyio.move_on_after(LOOK_MS / 1000):
                    await subscription.take()

    async def _show_new(self, row: SessionRow) -> None:
        """Everything that is committed and not shown."""
        if self._seq is None:
            self._seq = await pages.seq_before_last_turn(self._store.readers, row.key)
            self._view.began(row)
        while self._seq < row.next_seq - 1:
            events = await pages.events_after(self._store.readers, row.key, row.session_id, self._seq, PAGE_ROWS_MAX)
            if not events:
                return
            for event in events:
                await self._show(row, event)
            self._seq = events[-1].seq

    async def _show(self, row: SessionRow, event: CommittedEvent) -> None:
        """On a thread: a pipe that nobody reads holds up this command, but no signal."""
        if event.turn_id is not None and event.turn_id != self._turn_id:
            self._turn_id = event.turn_id
            self._view = self._new_view()
            for text in await self._asked(row, event.turn_id):
                await anyio.to_thread.run_sync(self._view.note, f"> {text}")
        await anyio.to_thread.run_sync(self._view.event, event)
        if event.ends_turn and event.turn_id is not None:
            turn = await pages.turn(self._store.readers, event.turn_id)
            await anyio.to_thread.run_sync(self._view.ended, row.session_id, turn)

    async def _asked(self, row: SessionRow, turn_id: str) -> Sequence[str]:
        """What a person is shown of the turn's messages; a program has them from `show`."""
        turn = await pages.turn(self._store.readers, turn_id)
        if turn is None or self._as_json:
            return []
        payloads = await pages.said_in(self._store.readers, row.key, turn.key)
        return ["\n\n".join(texts(decode_object(payload))) for payload in payloads[:1]]

    def _new_view(self) -> TurnView:
        return JsonLines() if self._as_json else Screen()

"""Sessions as callers see them: open, send, follow, read, list, interrupt."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from codexdb.config.resolve import Resolved
from codexdb.domain import crash
from codexdb.domain.clock import Clock
from codexdb.domain.event import CommittedEvent, session_configured
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item, developer_message, environment_context, user_instructions
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import PAGE_ROWS_MAX
from codexdb.domain.outcome import CreateOutcome, Empty, IfRunning, SendOutcome
from codexdb.service.content import content_hash, message_item
from codexdb.service.secrets import Secrets
from codexdb.store import endings, pages, turns
from codexdb.store.database import Store
from codexdb.store.feed import Subscription
from codexdb.store.sessions import NewSession


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a caller sends it."""

    content: Sequence[JsonObject]  # parts of type text, image or local_image, already checked
    submission_id: str  # the `id` of its turn's events on the wire
    message_id: str | None = None  # the sender's own name for it: repeats are recognised by it
    trace_context: str | None = None
    if_running: IfRunning = IfRunning.REJECT
    parent_message_id: str | None = None  # must be the newest message of the session


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a session's log, as of one instant. `next_seq` continues it: ask again with `after_seq=next_seq`."""

    session: pages.SessionRow
    last_turn: pages.TurnRow | None
    events: Sequence[CommittedEvent]
    items: Sequence[pages.ItemRow]
    queued: Sequence[tuple[str, str, int]]  # turns that wait: (id, content as JSON, when it was sent)
    next_seq: int
    more: bool


class SessionService:
    """Everything is safe to call from any number of tasks and processes; the database decides."""

    def __init__(self, store: Store, clock: Clock, secrets: Secrets, worker_key: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._worker_key = worker_key

    async def open_and_send(self, session_id: str, resolved: Resolved, origin: str, message: Message) -> SendOutcome:
        """A new session with its first turn, committed before this returns.

        `session_id` is chosen by the caller, who may follow it beforehand. A repeat of the `message_id` names the
        first session.
        """
        new = self._new_session(session_id, resolved, origin, configured=True)
        accepted = await self._new_message(message)
        self._secrets.keep(session_id, resolved.secrets)
        crash.point("accept.before")
        outcome = await self._store.writer.submit(turns.open_and_start, new, accepted)
        crash.point("accept.committed")
        return outcome

    async def open(
        self, session_id: str, resolved: Resolved, origin: str, message_id: str | None = None
    ) -> CreateOutcome:
        """A new session without a turn, committed before this returns."""
        new = self._new_session(session_id, resolved, origin, configured=False)
        self._secrets.keep(session_id, resolved.secrets)
        digest = content_hash([{"model": resolved.settings.model, "cwd": resolved.settings.cwd}])
        return await self._store.writer.submit(turns.open_only, new, new_id(), message_id, digest)

    async def send(self, session_id: str, message: Message) -> SendOutcome:
        """The atomic check-and-set: the message's turn holds the session, or nothing was written and the value says
        why.
        """
        if not message.content:
            return Empty()
        accepted = await self._new_message(message)
        crash.point("accept.before")
        outcome = await self._store.writer.submit(turns.start, session_id, accepted)
        crash.point("accept.committed")
        return outcome

    async def interrupt(self, turn_id: str) -> bool:
        """Ask for a turn to end. Idempotent; False where it is not open."""
        return await self._store.writer.submit(endings.request_interrupt, turn_id, self._clock.now_ms())

    async def withdraw(self, session_id: str, input_id: str) -> bool:
        """Take back a steered message. Idempotent; False where the model was told already, or it was taken back."""
        now_ms = self._clock.now_ms()
        return await self._store.writer.submit(endings.withdraw_steered, session_id, input_id, now_ms)

    def follow(self, session_id: str) -> AbstractContextManager[Subscription]:
        """What this process commits to the session from now on, in order. The session need not exist yet."""
        return self._store.feed.subscribe(session_id)

    async def find(self, session_id: str) -> pages.SessionRow | None:
        return await pages.session(self._store.readers, session_id)

    async def turn(self, turn_id: str) -> pages.TurnRow | None:
        return await pages.turn(self._store.readers, turn_id)

    async def turn_of_input(self, session_id: str, input_id: str) -> str | None:
        """The turn that a message went into; None where there is no such message."""
        return await pages.turn_of_input(self._store.readers, session_id, input_id)

    async def events_after(self, session: pages.SessionRow, after_seq: int) -> Sequence[CommittedEvent]:
        """The next events of a session, a page at most."""
        return await pages.events_after(self._store.readers, session.key, session.session_id, after_seq, PAGE_ROWS_MAX)

    async def read(self, session_id: str, after_seq: int, limit: int, *, with_items: bool) -> Page | None:
        """A page of the session's log; None where there is no such session."""
        async with self._store.readers.snapshot() as rows:
            session = await pages.session(rows, session_id)
            if session is None:
                return None
            events = await pages.events_after(rows, session.key, session_id, after_seq, limit)
            items = await pages.items_after(rows, session.key, 0, PAGE_ROWS_MAX) if with_items else []
            last_turn = await pages.last_turn(rows, session.key)
            queued = await pages.queued(rows, session.key)
        next_seq = events[-1].seq if events else after_seq
        return Page(
            session=session,
            last_turn=last_turn,
            events=events,
            items=items,
            queued=queued,
            next_seq=next_seq,
            more=next_seq < session.next_seq - 1,
        )

    async def list(self, before: tuple[int, int] | None, limit: int) -> Sequence[pages.SessionRow]:
        """Sessions that are not archived, last touched first, behind the cursor `(updated_at_ms, key)`."""
        before_ms, before_key = before or (2**62, 2**62)
        return await pages.sessions_before(self._store.readers, before_ms, before_key, limit)

    def _new_session(self, session_id: str, resolved: Resolved, origin: str, *, configured: bool) -> NewSession:
        settings = resolved.settings
        return NewSession(
            session_id=session_id,
            origin=origin,
            settings=settings,
            context=_context(resolved),
            events=[session_configured(session_id, settings.model)] if configured else [],
            now_ms=self._clock.now_ms(),
        )

    async def _new_message(self, message: Message) -> turns.NewMessage:
        return turns.NewMessage(
            input_id=new_id(),
            turn_id=new_id(),
            message_id=message.message_id,
            content=message.content,
            content_hash=content_hash(message.content),
            item=await message_item(message.content),
            submission_id=message.submission_id,
            trace_context=message.trace_context,
            worker_key=self._worker_key(),
            if_running=message.if_running,
            parent_message_id=message.parent_message_id,
            now_ms=self._clock.now_ms(),
        )


def _context(resolved: Resolved) -> list[Item]:
    """What the model is told before the first message; recorded once, so that the prefix of all requests stays the
    same.
    """
    settings = resolved.settings
    told = [developer_message(settings.developer_instructions)] if settings.developer_instructions else []
    if resolved.user_instructions is not None:
        told.append(user_instructions(resolved.user_instructions))
    environment = environment_context(
        settings.cwd,
        settings.approval_policy,
        settings.sandbox_mode,
        network_access=settings.network_access or settings.sandbox_mode == "danger-full-access",
    )
    return [*told, environment]

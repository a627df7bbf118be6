"""Sessions as callers see them: open, send, follow, read, list, interrupt."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from codexdb.config.resolve import Request, Resolved
from codexdb.config.source import ConfigSource
from codexdb.domain import crash
from codexdb.domain.approval import Decision, Fallback
from codexdb.domain.clock import Clock
from codexdb.domain.errors import InvalidArgumentsError
from codexdb.domain.event import CommittedEvent, session_configured
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item, developer_message, environment_context, user_instructions
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import PAGE_ROWS_MAX
from codexdb.domain.outcome import (
    ArchiveOutcome,
    Created,
    CreateOutcome,
    DecideOutcome,
    DeleteOutcome,
    Empty,
    ForkOutcome,
    IfRunning,
    Queued,
    SendOutcome,
    Started,
)
from codexdb.service.content import content_hash, message_item
from codexdb.service.secrets import Secrets
from codexdb.store import approvals, endings, inputs, lifecycle, listing, pages, search, turns
from codexdb.store.database import Store
from codexdb.store.feed import Subscription
from codexdb.store.sessions import NewSession, read_settings


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a caller sends it."""

    content: Sequence[JsonObject]  # parts of type text, image or local_image, already checked
    submission_id: str  # the `id` of its turn's events on the wire
    message_id: str | None = None  # the sender's own name for it: repeats are recognised by it
    trace_context: str | None = None
    if_running: IfRunning = IfRunning.REJECT
    parent_message_id: str | None = None  # must be the newest message of the session
    can_ask: bool = False  # its sender can be asked what the agent may do
    overrides: Request | None = None  # settings that change with this message's turn, and stay changed


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a session's log, as of one instant. `next_seq` continues it: ask again with `after_seq=next_seq`."""

    session: pages.SessionRow
    last_turn: pages.TurnRow | None
    events: Sequence[CommittedEvent]
    items: Sequence[pages.ItemRow]
    queued: Sequence[tuple[str, str, int]]  # turns that wait: (id, content as JSON, when it was sent)
    usage: pages.UsageRow  # of all its turns
    last_turn_usage: pages.UsageRow | None
    next_seq: int
    more: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A session that a search has found, with the words around its newest hit."""

    session: pages.SessionRow
    snippet: str
    key: int


class SessionService:
    """Everything is safe to call from any number of tasks and processes; the database decides."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        secrets: Secrets,
        config: ConfigSource,
        worker_key: Callable[[], int],
        *,
        works: bool = True,
    ) -> None:
        self._works = works
        self._store = store
        self._config = config
        self._clock = clock
        self._secrets = secrets
        self._worker_key = worker_key

    async def open_and_send(
        self, session_id: str, resolved: Resolved, origin: str, message: Message, title: str | None = None
    ) -> SendOutcome:
        """A new session with its first turn, committed before this returns.

        `session_id` is chosen by the caller, who may follow it beforehand. A repeat of the `message_id` names the
        first session.
        """
        new = self._new_session(session_id, resolved, origin, title, configured=True)
        accepted = await self._new_message(message)
        self._secrets.keep(session_id, resolved.secrets)
        crash.point("accept.before")
        outcome = await self._store.writer.submit(turns.open_and_start, new, accepted)
        crash.point("accept.committed")
        return outcome

    async def open(
        self,
        session_id: str,
        resolved: Resolved,
        origin: str,
        message_id: str | None = None,
        title: str | None = None,
    ) -> CreateOutcome:
        """A new session without a turn, committed before this returns."""
        new = self._new_session(session_id, resolved, origin, title, configured=False)
        self._secrets.keep(session_id, resolved.secrets)
        digest = content_hash([{"model": resolved.settings.model, "cwd": resolved.settings.cwd}])
        return await self._store.writer.submit(turns.open_only, new, new_id(), message_id, digest)

    async def send(self, session_id: str, message: Message) -> SendOutcome:
        """The atomic check-and-set: the message's turn holds the session, or nothing was written and the value says
        why.
        """
        if not message.content:
            return Empty()
        changes, secrets = await self._changes(session_id, message) if message.overrides is not None else ({}, {})
        accepted = await self._new_message(message, changes)
        self._secrets.keep_for_turn(session_id, accepted.turn_id, secrets)
        crash.point("accept.before")
        outcome = await self._store.writer.submit(turns.start, session_id, accepted)
        if not isinstance(outcome, Started | Queued):
            self._secrets.drop_for_turn(session_id, accepted.turn_id)
        crash.point("accept.committed")
        return outcome

    async def fork(
        self,
        session_id: str,
        source_id: str,
        after_turn: str | None = None,
        title: str | None = None,
        message_id: str | None = None,
    ) -> ForkOutcome:
        """A new session that shares another's past, up to the end of a turn; the source is not touched."""
        asked: JsonObject = {"source": source_id, "after_turn": after_turn, "title": title}
        new = lifecycle.NewFork(
            session_id=session_id,
            input_id=new_id(),
            message_id=message_id,
            content_hash=content_hash([asked]),
            source_id=source_id,
            after_turn=after_turn,
            title=title,
            now_ms=self._clock.now_ms(),
        )
        outcome = await self._store.writer.submit(lifecycle.fork, new)
        if isinstance(outcome, Created):
            self._secrets.keep(session_id, self._secrets.of(source_id) or {})
        return outcome

    async def archive(self, session_id: str, *, archived: bool) -> ArchiveOutcome:
        """Close a session for new messages, or open it again. Idempotent."""
        now_ms = self._clock.now_ms()
        return await self._store.writer.submit(lifecycle.archive, session_id, archived, now_ms)

    async def delete(self, session_id: str) -> DeleteOutcome:
        """Remove a session with all its rows, unless a turn is open. Its forks stay."""
        return await self._store.writer.submit(lifecycle.delete, session_id)

    async def approvals(
        self, session_id: str | None, *, pending_only: bool = True, after_key: int = 0, limit: int = PAGE_ROWS_MAX
    ) -> Sequence[approvals.ApprovalRow]:
        """Questions to a person, in the order they arose."""
        return await approvals.listed(
            self._store.readers, session_id, pending_only=pending_only, after_key=after_key, limit=limit
        )

    async def decide(self, approval_id: str, decision: Decision, by: str) -> DecideOutcome:
        """Answer a question, committed before this returns; the first answer counts."""
        now_ms = self._clock.now_ms()
        outcome = await self._store.writer.submit(endings.decide, approval_id, decision, by, now_ms)
        crash.point("approval.decided")
        return outcome

    async def interrupt(self, turn_id: str) -> bool:
        """Ask for a turn to end. Idempotent; False where it is not open."""
        return await self._store.writer.submit(endings.request_interrupt, turn_id, self._clock.now_ms())

    async def withdraw(self, session_id: str, input_id: str) -> bool:
        """Take back a steered message. Idempotent; False where the model was told already, or it was taken back."""
        now_ms = self._clock.now_ms()
        return await self._store.writer.submit(inputs.withdraw_steered, session_id, input_id, now_ms)

    def follow(self, session_id: str) -> AbstractContextManager[Subscription]:
        """What this process commits to the session from now on, in order. The session need not exist yet."""
        return self._store.feed.subscribe(session_id)

    async def find(self, session_id: str) -> pages.SessionRow | None:
        return await pages.session(self._store.readers, session_id)

    async def turn(self, turn_id: str) -> pages.TurnRow | None:
        return await pages.turn(self._store.readers, turn_id)

    async def turn_of_input(self, session_id: str, input_id: str) -> pages.InputPlace | None:
        """The turn that a message went into; None where there is no such message."""
        return await pages.turn_of_input(self._store.readers, session_id, input_id)

    async def events_after(self, session: pages.SessionRow, after_seq: int) -> Sequence[CommittedEvent]:
        """The next events of a session, a page at most."""
        return await pages.events_after(self._store.readers, session.key, session.session_id, after_seq, PAGE_ROWS_MAX)

    async def read(self, session_id: str, after_seq: int, limit: int, after_item: int | None) -> Page | None:
        """A page of the session's log, with its items after number `after_item` unless that is None; None where there
        is no such session.
        """
        async with self._store.readers.snapshot() as rows:
            session = await pages.session(rows, session_id)
            if session is None:
                return None
            events = await pages.events_after(rows, session.key, session_id, after_seq, limit)
            items = [] if after_item is None else await pages.items_after(rows, session.key, after_item, PAGE_ROWS_MAX)
            last_turn = await pages.last_turn(rows, session.key)
            queued = await pages.queued(rows, session.key)
            usage = await pages.usage(rows, session.key)
            turn_usage = await pages.usage(rows, session.key, last_turn.key) if last_turn is not None else None
        next_seq = events[-1].seq if events else after_seq
        return Page(
            session=session,
            last_turn=last_turn,
            events=events,
            items=items,
            queued=queued,
            usage=usage,
            last_turn_usage=turn_usage,
            next_seq=next_seq,
            more=next_seq < session.next_seq - 1,
        )

    async def list(
        self, before: tuple[int, int] | None, limit: int, *, archived: bool = False, cwd: str | None = None
    ) -> Sequence[pages.SessionRow]:
        """Sessions, last touched first, behind the cursor `(updated_at_ms, key)`. `archived`: closed ones too."""
        before_ms, before_key = before or (2**62, 2**62)
        readers = self._store.readers
        return await listing.sessions_before(readers, before_ms, before_key, limit, archived=archived, cwd=cwd)

    async def search(
        self, words: str, before: int | None, limit: int, *, archived: bool = False, cwd: str | None = None
    ) -> Sequence[Found]:
        """Sessions in which all the words were said or called, newest hit first, behind the cursor `key`.

        Raises:
            InvalidArgumentsError: there is no word to search for.
        """
        async with self._store.readers.snapshot() as rows:
            hits = await search.sessions(rows, words, before=before, limit=limit, archived=archived, cwd=cwd)
            found = await listing.sessions_named(rows, [hit.session_id for hit in hits])
        return [Found(found[hit.session_id], hit.snippet, hit.key) for hit in hits]

    async def _changes(self, session_id: str, message: Message) -> tuple[JsonObject, JsonObject]:
        """What a message changes of its session's settings, and its secret overrides; nothing where there is no such
        session.
        """
        if message.if_running is IfRunning.STEER:
            raise InvalidArgumentsError("a message that may be steered into a running turn cannot change its settings")
        session = await self.find(session_id)
        if session is None or message.overrides is None:
            return {}, {}
        settings = await read_settings(self._store.readers, session.key)
        return self._config.override(settings, self._secrets.of(session_id), message.overrides)

    def _new_session(
        self, session_id: str, resolved: Resolved, origin: str, title: str | None, *, configured: bool
    ) -> NewSession:
        settings = resolved.settings
        return NewSession(
            session_id=session_id,
            origin=origin,
            settings=settings,
            context=_context(resolved),
            events=[session_configured(session_id, settings.model)] if configured else [],
            now_ms=self._clock.now_ms(),
            title=title,
        )

    async def _new_message(self, message: Message, changes: JsonObject | None = None) -> turns.NewMessage:
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
            works=self._works,
            if_running=message.if_running,
            parent_message_id=message.parent_message_id,
            changes=changes or {},
            fallback=Fallback.WAIT if message.can_ask else None,
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

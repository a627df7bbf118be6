"""Prepares one turn from its rows and hands it to the agent."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from codexdb.agent import compaction
from codexdb.agent.loop import TurnLoop
from codexdb.agent.model import ModelClient
from codexdb.agent.plan import Compaction, LeftOff, Spent, TurnPlan
from codexdb.agent.prompts import base_instructions
from codexdb.agent.tools.mcp_client import ToolLists
from codexdb.agent.tools.mcp_servers import McpTools
from codexdb.config.provider import Provider
from codexdb.config.resolve import Resolved
from codexdb.domain.clock import Clock
from codexdb.domain.errors import CodexDBError
from codexdb.domain.event import background_event
from codexdb.domain.item import Item
from codexdb.domain.json import decode_object
from codexdb.domain.record import Entry
from codexdb.domain.session import SessionSettings
from codexdb.domain.worker import Claim
from codexdb.store import pages
from codexdb.store.claims import Waiting
from codexdb.store.database import Store
from codexdb.store.sessions import read_settings
from codexdb.worker.hands import call_context, tools_of
from codexdb.worker.journal import RowJournal

COMPACT_AT = 0.9  # of the model's window: what is left must hold a whole answer


class ReopenSettings(Protocol):
    """Finds provider and policies for a stored session. Raises `CodexDBError` with a kind. `turn_id`: a turn that
    begins, from which on what its message changed counts.
    """

    def __call__(self, settings: SessionSettings, session_id: str, turn_id: str | None = None) -> Resolved: ...


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What every turn of this process is worked with."""

    store: Store
    clock: Clock
    reopen: ReopenSettings
    model_of: Callable[[Provider], ModelClient]
    tool_lists: ToolLists = field(default_factory=ToolLists)  # what MCP servers have listed, so that few are started


async def work_turn(context: TurnContext, claim: Claim, journal: RowJournal, *, again: bool) -> str | None:
    """Work a claimed turn until the model has no more calls; returns the last thing it said. `again`: it was worked on
    before, here or elsewhere.

    Raises:
        Asked: a person has to decide first.
        CodexDBError: the turn failed; `kind` and message say how.
    """
    settings = await read_settings(context.store.readers, claim.fence.session_key)
    resolved = context.reopen(settings, claim.session_id, claim.turn_id)
    if not resolved.mcp_servers:
        return await _work(context, claim, journal, settings, resolved, None, again=again)
    async with McpTools(resolved.mcp_servers, claim.session_id, settings.cwd, lists=context.tool_lists) as mcp:
        return await _work(context, claim, journal, settings, resolved, mcp, again=again)


async def _work(
    context: TurnContext,
    claim: Claim,
    journal: RowJournal,
    settings: SessionSettings,
    resolved: Resolved,
    mcp: McpTools | None,
    *,
    again: bool,
) -> str | None:
    plan = await _plan(context, claim, settings, resolved, mcp, again=again)
    if mcp is not None:
        journal.append(Entry(events=[background_event(notice) for notice in mcp.notices()]))
    model = context.model_of(resolved.provider)
    return await TurnLoop(plan, journal, model, context.clock).run()


async def _plan(
    context: TurnContext,
    claim: Claim,
    settings: SessionSettings,
    resolved: Resolved,
    mcp: McpTools | None,
    *,
    again: bool,
) -> TurnPlan:
    """Everything that the turn is worked with, read from rows and config.toml."""
    fence = claim.fence
    rows = await pages.history(context.store.readers, fence.session_key)
    recorded = [decode_object(payload) for payload, _ in rows]
    return TurnPlan(
        session_id=claim.session_id,
        model=settings.model,
        model_provider=settings.model_provider,
        instructions=settings.base_instructions or base_instructions(),
        history=compaction.visible(recorded),
        tools=await tools_of(settings, mcp),
        calls=await call_context(context.store, context.clock, claim, settings, resolved, mcp, again=again),
        retries_max=max(resolved.provider.request_max_retries, resolved.provider.stream_max_retries),
        reasoning=resolved.reasoning,
        verbosity=resolved.verbosity,
        max_output_tokens=resolved.max_output_tokens,
        budget=resolved.budget,
        show_reasoning=not resolved.hide_agent_reasoning,
        show_raw_reasoning=resolved.show_raw_agent_reasoning,
        known_tokens=await _known_tokens(context, claim, recorded),
        uncounted=_uncounted(rows, fence.turn_key),
        compaction=Compaction(
            limit=_compact_limit(resolved),
            prompt=settings.compact_prompt,
            only=bool(recorded) and recorded[-1].get("type") == "compaction_request",
        ),
        left_off=await _left_off(context, claim) if again else LeftOff(),
        renew=lambda: _renewed(context, claim, settings, resolved.provider),
    )


def _renewed(context: TurnContext, claim: Claim, settings: SessionSettings, refused: Provider) -> ModelClient | None:
    provider = context.reopen(settings, claim.session_id).provider
    return None if provider == refused else context.model_of(provider)


async def _left_off(context: TurnContext, claim: Claim) -> LeftOff:
    readers, fence = context.store.readers, claim.fence
    answer, retry_at_ms = await pages.left_off(readers, fence.turn_key)
    return LeftOff(
        open_calls=await pages.open_calls(readers, fence.session_key, fence.turn_key),
        answer=answer,
        retry_at_ms=retry_at_ms,
        spent=Spent(*await pages.spent(readers, fence.session_key, fence.turn_key)),
    )


async def _known_tokens(context: TurnContext, claim: Claim, recorded: Sequence[Item]) -> int | None:
    """What the endpoint counted for everything before this turn; None where that is not known any more: of a turn that
    was cut short, nobody can tell what was recorded after the count.
    """
    last = await pages.last_count(context.store.readers, claim.fence.session_key)
    if last is None or last[0] == claim.fence.turn_key or compaction.is_fresh(recorded):
        return None
    return last[1]


def _uncounted(rows: Sequence[tuple[str, int | None]], turn_key: int) -> int:
    """How many items have come since the last turn: those of this one, and what its message changed of the context."""
    since = (number for number, (_, turn) in enumerate(reversed(rows)) if turn not in (None, turn_key))
    return next(since, len(rows))


def _compact_limit(resolved: Resolved) -> int | None:
    if resolved.auto_compact_token_limit is not None:
        return resolved.auto_compact_token_limit
    return None if resolved.context_window is None else int(resolved.context_window * COMPACT_AT)


async def can_be_worked(context: TurnContext, turn: Waiting) -> bool:
    """Whether this process has the key of the turn's provider; it leaves the turn to others if not. What else is amiss
    ends the turn, and so is for whoever takes it.
    """
    try:
        settings = await read_settings(context.store.readers, turn.session_key)
        provider = context.reopen(settings, turn.session_id).provider
    except CodexDBError:
        return True
    return provider.missing_key(os.environ) is None

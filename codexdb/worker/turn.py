"""Prepares one turn from its rows and hands it to the agent."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from codexdb.agent.calls import CallContext
from codexdb.agent.loop import TurnLoop, TurnPlan
from codexdb.agent.model import ModelClient
from codexdb.agent.prompts import base_instructions
from codexdb.agent.tools import plan, shell
from codexdb.config.provider import Provider
from codexdb.config.resolve import Resolved
from codexdb.domain.clock import Clock
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import decode_object
from codexdb.domain.session import SessionSettings
from codexdb.domain.worker import Claim
from codexdb.store import pages
from codexdb.store.claims import Waiting
from codexdb.store.database import Store
from codexdb.store.sessions import read_settings
from codexdb.worker.journal import RowJournal


class ReopenSettings(Protocol):
    """Finds provider and policies for a stored session. Raises `CodexDBError` with a kind."""

    def __call__(self, settings: SessionSettings, session_id: str) -> Resolved: ...


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What every turn of this process is worked with."""

    store: Store
    clock: Clock
    reopen: ReopenSettings
    model_of: Callable[[Provider], ModelClient]


async def work_turn(context: TurnContext, claim: Claim, journal: RowJournal) -> str | None:
    """Work a claimed turn until the model has no more calls; returns the last thing it said.

    Raises:
        CodexDBError: the turn failed; `kind` and message say how.
    """
    readers = context.store.readers
    settings = await read_settings(readers, claim.fence.session_key)
    resolved = context.reopen(settings, claim.session_id)
    fence = claim.fence
    rows = [(decode_object(payload), turn) for payload, turn in await pages.history(readers, fence.session_key)]
    again = fence.attempt > 1
    answer, retry_at_ms = await pages.left_off(readers, fence.turn_key) if again else (None, None)
    prepared = TurnPlan(
        session_id=claim.session_id,
        model=settings.model,
        instructions=settings.base_instructions or base_instructions(),
        history=[item for item, _ in rows],
        tools=[shell.SPEC, plan.SPEC] if settings.include_plan_tool else [shell.SPEC],
        reasoning=resolved.reasoning,
        calls=CallContext(settings, command_environment(resolved), context.clock),
        retries_max=max(resolved.provider.request_max_retries, resolved.provider.stream_max_retries),
        open_calls=await pages.open_calls(readers, fence.session_key, fence.turn_key) if again else (),
        answer=answer,
        retry_at_ms=retry_at_ms,
    )
    return await TurnLoop(prepared, journal, context.model_of(resolved.provider), context.clock).run()


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


def command_environment(resolved: Resolved) -> dict[str, str]:
    """What commands get: without the variables in which config.toml looks for the provider's secrets."""
    provider = resolved.provider
    secret = {provider.env_key, *provider.env_http_headers.values()}
    return resolved.environment.environment({key: value for key, value in os.environ.items() if key not in secret})

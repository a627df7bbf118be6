"""What a turn's calls may do, and what holds them to it: read from rows and config.toml, before the turn begins."""

import os
from typing import cast

import anyio.to_thread

from codexdb.agent.calls.context import CallContext, Remembered
from codexdb.agent.calls.turn_diff import TurnDiff
from codexdb.agent.history import BYTES_PER_TOKEN
from codexdb.agent.model import ToolSpec
from codexdb.agent.sandbox.choice import choose
from codexdb.agent.sandbox.confinement import Backend
from codexdb.agent.sandbox.mode import confinement_of
from codexdb.agent.tools import plan, shell, view_image
from codexdb.agent.tools.mcp_servers import McpTools
from codexdb.agent.tools.patch import spec as patch_spec
from codexdb.config.resolve import Resolved
from codexdb.domain.approval import ASKED_IN, Fallback
from codexdb.domain.clock import Clock
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import TOOL_OUTPUT_BYTES_MAX, TOOL_OUTPUT_BYTES_MIN, TOOL_OUTPUT_STORED_BYTES_MAX
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.domain.worker import Claim
from codexdb.store import approvals, pages, patches
from codexdb.store.database import Store, own_files
from codexdb.store.turns import FALLBACK_SETTING


async def call_context(
    store: Store,
    clock: Clock,
    claim: Claim,
    settings: SessionSettings,
    resolved: Resolved,
    mcp: McpTools | None,
    *,
    again: bool,
) -> CallContext:
    """What the calls of this turn run with. `again`: it was worked on before."""
    environment = command_environment(resolved)
    confinement = await anyio.to_thread.run_sync(confinement_of, settings, resolved.workspace, environment)
    own = await pages.turn_settings(store.readers, claim.fence.turn_key)
    return CallContext(
        settings=settings,
        environment=environment,
        clock=clock,
        shell_timeout_ms=resolved.shell_timeout_ms,
        output_bytes_max=_output_bytes_max(resolved),
        fallback=Fallback(str(own.get(FALLBACK_SETTING, resolved.approval_fallback))),
        remembered=await _remembered(store, claim, settings),
        confinement=confinement,
        backend=Backend.NONE if confinement is None else await choose(resolved.sandbox_backend),
        mcp=mcp,
        keep_off=frozenset(own_files(store.path)),
        diff=TurnDiff(*await patches.of_turn(store.readers, claim.fence)) if again else TurnDiff(),
    )


async def tools_of(settings: SessionSettings, mcp: McpTools | None) -> list[ToolSpec]:
    """What the model may call, in an order that stays the same."""
    may_escalate = (
        settings.approval_policy is ApprovalPolicy.ON_REQUEST and settings.sandbox_mode is SandboxMode.WORKSPACE_WRITE
    )
    offered = [shell.spec(may_escalate=may_escalate), patch_spec.spec()]
    offered += [plan.SPEC] if settings.include_plan_tool else []
    return [*offered, view_image.SPEC, *(await mcp.specs() if mcp is not None else [])]


def command_environment(resolved: Resolved) -> dict[str, str]:
    """What commands get: without the variables in which config.toml looks for the provider's secrets."""
    provider = resolved.provider
    secret = {provider.env_key, *provider.env_http_headers.values()}
    return resolved.environment.environment({key: value for key, value in os.environ.items() if key not in secret})


async def _remembered(store: Store, claim: Claim, settings: SessionSettings) -> Remembered:
    if settings.approval_policy is ApprovalPolicy.NEVER:  # the sandbox is all that holds, and they would run without it
        return Remembered()
    found = await approvals.remembered(store.readers, claim.fence.session_key, settings.cwd)
    by_kind: dict[str, list[JsonObject]] = {"exec": [], "patch": [], "tool": []}
    for kind, question in found:
        given_in = SandboxMode(str(question.get(ASKED_IN, SandboxMode.DANGER_FULL_ACCESS)))
        if not settings.sandbox_mode.stricter_than(given_in):
            by_kind[kind].append(question)
    return Remembered(
        commands=frozenset((str(each["cwd"]), tuple(cast("list[str]", each["command"]))) for each in by_kind["exec"]),
        roots=frozenset(str(each["grant_root"]) for each in by_kind["patch"] if each["grant_root"] is not None),
        tools=frozenset((str(each["server"]), str(each["tool"])) for each in by_kind["tool"]),
    )


def _output_bytes_max(resolved: Resolved) -> int:
    tokens = resolved.tool_output_token_limit
    if tokens is None:
        return TOOL_OUTPUT_BYTES_MAX
    return min(max(tokens * BYTES_PER_TOKEN, TOOL_OUTPUT_BYTES_MIN), TOOL_OUTPUT_STORED_BYTES_MAX)

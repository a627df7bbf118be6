"""Patches, whether they came by `apply_patch` or as a command: decided, applied as a whole, shown as a diff."""

import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import PurePosixPath

import anyio
import anyio.to_thread

from codexdb.agent.calls.context import CallContext, answered, ask, refuse, settle_intent
from codexdb.agent.journal import Journal
from codexdb.agent.sandbox.confinement import PROTECTED, Backend, within
from codexdb.agent.tools import shell
from codexdb.agent.tools.patch import events, grammar, leftovers, program
from codexdb.agent.tools.patch.apply import Failed as NotApplied
from codexdb.agent.tools.patch.apply import apply
from codexdb.agent.tools.patch.verify import Plan, verify
from codexdb.domain import crash, event
from codexdb.domain.approval import Fallback
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.record import (
    CallChange,
    CallDecided,
    CallEnded,
    CallSpawned,
    CallStarted,
    Entry,
    NewItem,
    OpenCall,
    PatchIntent,
)
from codexdb.domain.session import ApprovalPolicy, SandboxMode
from codexdb.domain.transition import ApprovalState

REJECTED = "patch rejected by user"
OUTSIDE = "patch rejected: writing outside of the project; rejected by user approval settings"
READ_ONLY = "patch rejected: the sandbox mode is read-only, and the approval policy lets nobody be asked"
CHANGED = "patch rejected: its files have changed since it was approved; nothing was applied"
STOPPED = (
    "The patch was stopped while it was applied. What it had begun was undone, unless there was no time left for that. "
    "Look at its files before you repeat it."
)
NUL = "execution error: nul byte found in provided data"
NO_FOLDER = "execution error: there is no such directory: {cwd}"
RETRY_REASON = "the patch failed in the sandbox; apply it without?"

_FROM_FILE = 'exec "$@" < "$0"'  # a command has no stdin of its own


async def run_patch(context: CallContext, journal: Journal, call: OpenCall, text: str, cwd: str) -> Item | None:
    """See `run_call`. `text` is the patch, `cwd` where its paths begin."""
    plan = await anyio.to_thread.run_sync(_planned, context, text, cwd)
    if isinstance(plan, str):
        return refuse(journal, call, plan)
    match answered(call):
        case ApprovalState.PENDING:
            return None
        case ApprovalState.APPROVED if not _is_what_was_shown(call, plan):
            return refuse(journal, call, CHANGED)
        case ApprovalState.APPROVED:
            return await _apply(context, journal, call, text, plan, asked=True)
        case None:
            return await _decide(context, journal, call, text, plan)
        case _:
            return refuse(journal, call, REJECTED)


def _planned(context: CallContext, text: str, cwd: str) -> Plan | str:
    """What the patch would do, or what to tell the model."""
    sections = grammar.parse(text)
    if isinstance(sections, str):
        return f"error: {sections}"
    if "\0" in cwd:
        return NUL
    if not os.path.isdir(cwd):  # noqa: PTH112 - a text that may be anything
        return NO_FOLDER.format(cwd=cwd)
    return verify(sections, cwd, keep_off=context.keep_off)


async def _decide(context: CallContext, journal: Journal, call: OpenCall, text: str, plan: Plan) -> Item | None:
    """The table: a policy says who is asked, and the kernel, where there is a sandbox, holds what nobody was asked."""
    policy, mode = context.settings.approval_policy, context.settings.sandbox_mode
    roots = () if context.confinement is None else context.confinement.writable_roots
    inside = mode is SandboxMode.DANGER_FULL_ACCESS or _all_within(plan, roots)
    granted = _all_within(plan, context.remembered.roots)
    held = context.backend is Backend.BWRAP or (context.backend is Backend.LANDLOCK and not _protected(plan, roots))
    if granted or (
        policy is not ApprovalPolicy.UNTRUSTED and (inside or (policy is ApprovalPolicy.ON_FAILURE and held))
    ):
        return await _apply(context, journal, call, text, plan, asked=granted)
    if policy is ApprovalPolicy.NEVER:
        return refuse(journal, call, READ_ONLY if mode is SandboxMode.READ_ONLY else OUTSIDE)
    return _ask(context, journal, call, plan, None, [])


def _all_within(plan: Plan, roots: Iterable[str]) -> bool:
    """Whether all paths lie below the roots, and none of them in what stays protected there."""
    lies = all(any(within(path, root) for root in roots) for path in plan.paths)
    return lies and not _protected(plan, roots)


def _protected(plan: Plan, roots: Iterable[str]) -> bool:
    """Whether a path lies in what is protected below its root: Landlock cannot hold that, so nobody else would."""
    below = [PurePosixPath(path).relative_to(root) for path in plan.paths for root in roots if within(path, root)]
    return any(not set(PROTECTED).isdisjoint(path.parts) for path in below)


def _is_what_was_shown(call: OpenCall, plan: Plan) -> bool:
    """Questions may stay open for days: what was approved is what is applied, or nothing is."""
    shown = {} if call.approval is None else call.approval.question
    return shown.get("changes") == events.changes(plan) and shown.get("paths") == list(plan.paths)


def _grant_root(context: CallContext, plan: Plan) -> str | None:
    """The folder that a yes for longer opens; None where the paths have none in common that is theirs."""
    folders = [os.path.dirname(path) for path in plan.paths]  # noqa: PTH120 - texts
    root = os.path.commonpath(folders)
    roots = () if context.confinement is None else context.confinement.writable_roots
    return root if root != "/" and (root in folders or any(within(root, each) for each in roots)) else None


def _ask(
    context: CallContext, journal: Journal, call: OpenCall, plan: Plan, reason: str | None, before: list[event.Event]
) -> Item | None:
    changes = events.changes(plan)
    root = _grant_root(context, plan)
    told = event.apply_patch_approval_request(str(call.item["call_id"]), changes, reason, root)
    question: JsonObject = {"changes": changes, "reason": reason, "grant_root": root, "paths": list(plan.paths)}
    return ask(context, journal, call, "patch", question, [*before, told])


async def _apply(
    context: CallContext, journal: Journal, call: OpenCall, text: str, plan: Plan, *, asked: bool
) -> Item | None:
    """Apply it: what a person has approved by ourselves, anything else in the sandbox."""
    call_id = str(call.item["call_id"])
    intent: list[CallChange] = [] if call.started else [CallDecided(call.id, approved=True), CallStarted(call.id)]
    begin = event.patch_apply_begin(call_id, events.changes(plan), auto_approved=not asked)
    patch = PatchIntent(call.id, plan.paths, context.diff.take(plan))
    await settle_intent(context, journal, Entry(calls=intent, events=[begin], patch=patch))
    crash.point("call.intended")
    began_ns = time.monotonic_ns()
    confined = context.confinement is not None and context.backend is not Backend.NONE
    confined &= not asked and plan.obstacle is None  # an obstacle fails it; the sandbox does not know all of them
    try:
        done, said = await (_in_sandbox if confined else _by_ourselves)(context, journal, call, text, plan)
    except anyio.get_cancelled_exc_class():
        await _abort(context, journal, call, plan)
        raise
    crash.point("call.ran")
    end = event.patch_apply_end(call_id, said if done else "", "" if done else said, success=done)
    if not done and confined and _may_retry(context, said):
        return _ask(context, journal, OpenCall(call.id, call.item, started=True), plan, RETRY_REASON, [end])
    metadata = {"exit_code": 0 if done else 1, "duration_seconds": round((time.monotonic_ns() - began_ns) / 1e9, 1)}
    output = function_call_output(call_id, encode({"output": said, "metadata": metadata}))
    ended = CallEnded(call.id, "succeeded" if done else "failed", int(not done), said)
    await _record(context, journal, ended, output, end)
    return output


async def _record(context: CallContext, journal: Journal, ended: CallEnded, output: Item, end: event.Event) -> None:
    """The call's outcome with what the turn's patches have changed so far. Not to be torn: it has happened."""
    diff: list[event.Event] = []
    with anyio.CancelScope(shield=True):
        diff = await context.diff.tell(context.settings.cwd, context.keep_off)
    journal.append(Entry(calls=[ended], items=[NewItem(output)], events=[end, *diff]))
    crash.point("call.recorded")


async def _abort(context: CallContext, journal: Journal, call: OpenCall, plan: Plan) -> None:
    """The patch was stopped on purpose: that is on record, and nothing of it stays beside the files."""
    call_id = str(call.item["call_id"])
    folders = {os.path.dirname(path) for path in plan.paths}  # noqa: PTH120 - texts
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(leftovers.remove, folders, leftovers.run_of(call.id))
    end = event.patch_apply_end(call_id, "", STOPPED, success=False)
    output = function_call_output(call_id, STOPPED)
    await _record(context, journal, CallEnded(call.id, "aborted", None, STOPPED), output, end)


def _may_retry(context: CallContext, said: str) -> bool:
    if context.settings.approval_policy is not ApprovalPolicy.ON_FAILURE or context.fallback is not Fallback.WAIT:
        return False
    return "Permission denied" in said or "Read-only file system" in said or "not permitted" in said


async def _by_ourselves(
    context: CallContext, _journal: Journal, call: OpenCall, _text: str, plan: Plan
) -> tuple[bool, str]:
    """Whether it was applied, and what there is to say about it."""
    name = leftovers.run_of(call.id)
    outcome = await anyio.to_thread.run_sync(lambda: apply(plan, run_name=name, keep_off=context.keep_off))
    return not isinstance(outcome, NotApplied), outcome.text


async def _in_sandbox(
    context: CallContext, journal: Journal, call: OpenCall, text: str, plan: Plan
) -> tuple[bool, str]:
    """Whether it was applied, and what there is to say about it."""

    async def on_started(pid: int, pid_started_at: str) -> None:
        journal.append(Entry(calls=[CallSpawned(call.id, pid, pid_started_at)]))

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="codexdb-patch-") as file:
        await anyio.to_thread.run_sync(lambda: (file.write(text), file.flush()))
        apply_it = program.argv(leftovers.run_of(call.id))
        command = shell.ShellCommand(
            argv=("/bin/sh", "-c", _FROM_FILE, file.name, *apply_it), cwd=plan.cwd, timeout_ms=context.shell_timeout_ms
        )
        result = await shell.run(
            command,
            environment={"PATH": os.defpath},
            on_started=on_started,
            on_output=lambda _stream, _chunk: None,
            confinement=context.confinement,
            backend=context.backend,
        )
    return result.succeeded, (result.stdout if result.succeeded else result.stderr) or result.stored_output

"""Whether a command runs, and how: the table of approval policies and sandbox modes, as data.

Owns no texts but those that stand in the table, asks nobody and runs nothing.
"""

from dataclasses import dataclass
from enum import Enum

from codexdb.domain.session import ApprovalPolicy, SandboxMode

REJECTED = "exec command rejected: auto-rejected because command is not on trusted list"  # as the original tells it
RETRY_REASON = "command failed; retry without sandbox?"  # as clients know it


@dataclass(frozen=True, slots=True)
class Run:
    """The command runs without a question."""

    sandboxed: bool


class Why(Enum):
    """What makes a question necessary."""

    POLICY = "policy"  # every command that is not trusted
    ESCALATION = "escalation"  # the model wants to leave the sandbox; its own words are the reason to show
    NO_SANDBOX = "no sandbox"  # nothing would hold the command to the mode
    DANGER = "danger"  # it destroys what cannot be brought back


@dataclass(frozen=True, slots=True)
class Ask:
    """A person is asked first. A command that was approved runs without a sandbox."""

    why: Why
    reason: str | None = None  # to be shown; None where there is nothing to say beyond the policy


@dataclass(frozen=True, slots=True)
class Reject:
    """The command does not run, and nobody is asked; `text` tells the model."""

    text: str


@dataclass(frozen=True, slots=True)
class AskRetry:
    """A person is asked whether the command that the sandbox stopped may run again without it."""

    reason: str = RETRY_REASON


Decision = Run | Ask | Reject

_INSIDE, _FREE = Run(sandboxed=True), Run(sandboxed=False)
_ASK = Ask(Why.POLICY)
_ESCALATED = Ask(Why.ESCALATION)
_UNPROTECTED = Ask(Why.NO_SANDBOX, "there is no sandbox here that could hold it to the sandbox mode")
_REJECT = Reject(REJECTED)


@dataclass(frozen=True, slots=True)
class _Row:
    """What becomes of a command that is not trusted, under one policy."""

    sandboxed: Decision  # there is a sandbox, and the mode wants one
    escalated: Decision  # the same, and the model asked to be let out of it
    missing: Decision  # the mode wants one, and there is none
    free: Decision  # the mode wants none


_TABLE = {
    ApprovalPolicy.UNTRUSTED: _Row(sandboxed=_ASK, escalated=_ASK, missing=_ASK, free=_ASK),
    ApprovalPolicy.ON_FAILURE: _Row(sandboxed=_INSIDE, escalated=_INSIDE, missing=_UNPROTECTED, free=_FREE),
    ApprovalPolicy.ON_REQUEST: _Row(sandboxed=_INSIDE, escalated=_ESCALATED, missing=_UNPROTECTED, free=_FREE),
    ApprovalPolicy.NEVER: _Row(sandboxed=_INSIDE, escalated=_INSIDE, missing=_REJECT, free=_FREE),
}


def decide(
    policy: ApprovalPolicy,
    mode: SandboxMode,
    *,
    trusted: bool,
    escalated: bool,
    sandbox: bool,
    approved: bool = False,
    danger: str | None = None,
) -> Decision:
    """What becomes of a command.

    `trusted`: it only reads (`safe.is_safe`), so it runs without a question, but inside the sandbox whenever there is
    one. `escalated`: the model asked to leave the sandbox, which only `on-request` listens to. `sandbox`: there is a
    working one here. `approved`: a person approved exactly this command for the session; like one that is approved
    once it runs without a sandbox. `danger`: what `dangerous.danger` says of it; forces a question, except under
    `never`, where nobody may be asked and the table holds as it is.
    """
    wanted = mode is not SandboxMode.DANGER_FULL_ACCESS
    if approved:
        return _FREE
    if trusted:
        return Run(sandboxed=wanted and sandbox)
    row = _TABLE[policy]
    if not wanted:
        decision = row.free
    elif not sandbox:
        decision = row.missing
    else:
        decision = row.escalated if escalated else row.sandboxed
    if danger is not None and policy is not ApprovalPolicy.NEVER:
        return Ask(Why.DANGER, danger)
    return decision


def after_failure(policy: ApprovalPolicy, *, denied: bool) -> AskRetry | None:
    """What follows when a command failed inside the sandbox. `denied`: its output or its end shows that the sandbox
    stopped it; any other failure is the command's own, and the model is simply told.
    """
    return AskRetry() if denied and policy is ApprovalPolicy.ON_FAILURE else None

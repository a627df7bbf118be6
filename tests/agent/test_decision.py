"""The decision table: every cell of policies, modes, trust, escalation and sandbox, written out."""

from itertools import product

import pytest

from codexdb.agent.tools.decision import Ask, AskRetry, Decision, Reject, Run, Why, after_failure, decide
from codexdb.domain.session import ApprovalPolicy, SandboxMode

CELLS: dict[str, Decision] = {
    "ask": Ask(Why.POLICY),
    "escalation": Ask(Why.ESCALATION),
    "unprotected": Ask(Why.NO_SANDBOX, "there is no sandbox here that could hold it to the sandbox mode"),
    "inside": Run(sandboxed=True),
    "free": Run(sandboxed=False),
    "reject": Reject("exec command rejected: auto-rejected because command is not on trusted list"),
}

# With a sandbox, then without one; of each: trusted, trusted and escalated, not trusted, not trusted and escalated.
TABLE = """
untrusted   read-only           inside inside ask    ask         free free ask         ask
untrusted   workspace-write     inside inside ask    ask         free free ask         ask
untrusted   danger-full-access  free   free   ask    ask         free free ask         ask
on-failure  read-only           inside inside inside inside      free free unprotected unprotected
on-failure  workspace-write     inside inside inside inside      free free unprotected unprotected
on-failure  danger-full-access  free   free   free   free        free free free        free
on-request  read-only           inside inside inside escalation  free free unprotected unprotected
on-request  workspace-write     inside inside inside escalation  free free unprotected unprotected
on-request  danger-full-access  free   free   free   free        free free free        free
never       read-only           inside inside inside inside      free free reject      reject
never       workspace-write     inside inside inside inside      free free reject      reject
never       danger-full-access  free   free   free   free        free free free        free
"""

Cell = tuple[ApprovalPolicy, SandboxMode, bool, bool, bool]


def cells() -> dict[Cell, Decision]:
    found: dict[Cell, Decision] = {}
    for line in TABLE.strip().splitlines():
        policy, mode, *names = line.split()
        for (sandbox, trusted, escalated), name in zip(
            product((True, False), (True, False), (False, True)), names, strict=True
        ):
            found[ApprovalPolicy(policy), SandboxMode(mode), sandbox, trusted, escalated] = CELLS[name]
    return found


EXPECTED = cells()
EVERY = list(product(ApprovalPolicy, SandboxMode, (True, False), (True, False), (True, False)))


def test_the_table_has_every_cell() -> None:
    assert set(EXPECTED) == set(EVERY)
    assert len(EVERY) == 96


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: "-".join(map(str, cell)))
def test_a_command_is_decided_as_the_table_says(cell: Cell) -> None:
    policy, mode, sandbox, trusted, escalated = cell
    assert decide(policy, mode, trusted=trusted, escalated=escalated, sandbox=sandbox) == EXPECTED[cell]


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: "-".join(map(str, cell)))
def test_what_was_approved_for_the_session_runs_as_if_approved_again(cell: Cell) -> None:
    policy, mode, sandbox, trusted, escalated = cell
    decision = decide(
        policy, mode, trusted=trusted, escalated=escalated, sandbox=sandbox, approved=True, danger="it hurts"
    )
    assert decision == Run(sandboxed=False)


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: "-".join(map(str, cell)))
def test_a_danger_forces_a_question_where_one_may_be_asked(cell: Cell) -> None:
    policy, mode, sandbox, trusted, escalated = cell
    decision = decide(policy, mode, trusted=trusted, escalated=escalated, sandbox=sandbox, danger="it hurts")
    if trusted or policy is ApprovalPolicy.NEVER:
        assert decision == EXPECTED[cell]
    else:
        assert decision == Ask(Why.DANGER, "it hurts")


@pytest.mark.parametrize("policy", ApprovalPolicy)
@pytest.mark.parametrize("denied", [True, False])
def test_only_what_the_sandbox_stopped_is_asked_about_again(policy: ApprovalPolicy, denied: bool) -> None:
    wanted = AskRetry("command failed; retry without sandbox?") if denied and policy == "on-failure" else None
    assert after_failure(policy, denied=denied) == wanted

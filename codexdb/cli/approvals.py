"""`codexdb approvals`: what agents ask a person, and the answers. The commands; `answers` does the work."""

import sys

import click

from codexdb.cli.page import DATABASE, JSON, Option, Page
from codexdb.domain.approval import Decision


@click.group()
def approvals() -> None:
    """Answer what agents ask before they act."""


@approvals.command(
    "list",
    cls=Page,
    examples=("codexdb approvals list", "codexdb approvals list --all --json | jq -r .approval_id"),
)
@click.option("--all", "closed", cls=Option, section="Questions", is_flag=True, help="Also those that are answered.")
@JSON
@DATABASE
def list_all(closed: bool, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - flags
    """Show the questions that wait, the oldest first."""
    from codexdb.cli.answers import show

    sys.exit(show(db, closed=closed, as_json=as_json))


@approvals.command(
    cls=Page,
    examples=(
        "codexdb approvals decide 01a21024-4cff-7dec-9461-95c9da73d63e approved",
        "codexdb approvals decide 01a21024-4cff-7dec-9461-95c9da73d63e denied --json",
    ),
)
@click.argument("approval")
@click.argument("decision", type=click.Choice([decision.value for decision in Decision]))
@JSON
@DATABASE
def decide(approval: str, decision: str, as_json: bool, db: str | None) -> None:  # noqa: FBT001 - a flag
    """Answer the question APPROVAL with DECISION.

    The turn goes on by it, in whatever server takes it.

    `approved` lets the call run this once, `approved_for_session` also when this session asks for the very same again,
    `approved_always` in every session of the same directory. `denied` tells the model no, `abort` ends the turn. The
    first answer counts: exit code 1 if there was one before.
    """
    from codexdb.cli.answers import give

    sys.exit(give(db, approval, Decision(decision), as_json=as_json))

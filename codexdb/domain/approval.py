"""Questions to a person: what may be asked, and what may be answered."""

from dataclasses import dataclass
from enum import StrEnum

from codexdb.domain.json import JsonObject
from codexdb.domain.transition import ApprovalState


class Decision(StrEnum):
    """An answer. The first three let the call run; what they say beyond it holds for the very same command or place."""

    APPROVED = "approved"
    APPROVED_FOR_SESSION = "approved_for_session"
    APPROVED_ALWAYS = "approved_always"  # in every session that works in the same directory
    DENIED = "denied"  # the model is told, and goes on
    ABORT = "abort"  # the turn ends

    @property
    def approves(self) -> bool:
        return self not in (Decision.DENIED, Decision.ABORT)


class Fallback(StrEnum):
    """What becomes of a question that nobody can be asked."""

    DENY = "deny"
    WAIT = "wait"  # for `approval_decide` or `codexdb approvals decide`


NOBODY = "nobody"  # who decided, where nobody could be asked
ASKED_IN = "sandbox_mode"  # the member of a question that says in which mode it arose


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A question as it arises. `question` is what people are shown and what decisions are remembered for."""

    id: str
    call: str  # our id of the tool call
    kind: str  # exec, patch, tool
    question: JsonObject
    fallback: Fallback


@dataclass(frozen=True, slots=True)
class Approval:
    """The latest question about a call, as it stands."""

    id: str
    state: ApprovalState
    decided_by: str | None
    question: JsonObject  # what was shown

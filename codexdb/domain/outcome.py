"""What became of a message that somebody sent. Refusals that a caller must expect are values, not exceptions."""

from dataclasses import dataclass
from enum import StrEnum

from codexdb.domain.approval import Decision


class IfRunning(StrEnum):
    """What is to become of a message whose session is held by a turn."""

    REJECT = "reject"
    QUEUE = "queue"  # a turn of its own, behind
    STEER = "steer"  # into the running turn


@dataclass(frozen=True, slots=True)
class Started:
    """The message holds the session and its turn is running."""

    session_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The message has a turn of its own, which starts when those before it have ended."""

    session_id: str
    turn_id: str
    position: int  # 1: next


@dataclass(frozen=True, slots=True)
class Steered:
    """The message goes into this running turn, before its next model request; if that ends first, into a turn that
    comes next.
    """

    session_id: str
    turn_id: str
    input_id: str


@dataclass(frozen=True, slots=True)
class QueueFull:
    """Too many turns wait already. Nothing was written."""

    session_id: str
    waiting: int


@dataclass(frozen=True, slots=True)
class Outdated:
    """`parent_message_id` is not the newest message of the session. Nothing was written."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """This `message_id` was accepted before, with the same content. Nothing was written."""

    session_id: str
    turn_id: str | None  # None: the message opened a session and carried no turn
    outcome: str  # of the first acceptance: "started", "queued", "steered", "created"
    input_id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """This `message_id` was accepted before, to be steered, and its sender took it back before the model was told."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Another turn holds the session. Nothing was written."""

    session_id: str
    turn_id: str
    since_at_ms: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """No session of that id."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Archived:
    """The session is closed for new messages."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """This `message_id` was accepted before with other content. Nothing was written."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Empty:
    """No content was given."""


@dataclass(frozen=True, slots=True)
class Created:
    """The session exists, without a turn."""

    session_id: str


@dataclass(frozen=True, slots=True)
class TurnNotFound:
    """The session has no ended turn of that id. Nothing was written."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """This answer counts."""

    approval_id: str
    session_id: str
    turn_id: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class TooLate:
    """The question was answered or withdrawn before. Nothing was written."""

    approval_id: str
    state: str
    decision: str | None


@dataclass(frozen=True, slots=True)
class UnknownApproval:
    """No question of that id."""

    approval_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """The session is as it was asked to be, whether or not it was so before."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """Nothing of the session is left."""

    session_id: str


SendOutcome = (
    Started
    | Queued
    | Steered
    | QueueFull
    | Outdated
    | Duplicate
    | Withdrawn
    | Busy
    | NotFound
    | Archived
    | Conflict
    | Empty
)
CreateOutcome = Created | Duplicate | Conflict
ForkOutcome = Created | Duplicate | Conflict | NotFound | TurnNotFound
ArchiveOutcome = Done | Busy | NotFound
DeleteOutcome = Deleted | Busy | NotFound
DecideOutcome = Decided | TooLate | UnknownApproval

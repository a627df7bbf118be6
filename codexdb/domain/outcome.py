"""What became of a message that somebody sent. Refusals that a caller must expect are values, not exceptions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The message holds the session and its turn is running."""

    session_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """This `message_id` was accepted before, with the same content. Nothing was written."""

    session_id: str
    turn_id: str | None  # None: the message opened a session and carried no turn
    outcome: str  # of the first acceptance: "started", "created"


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


SendOutcome = Started | Duplicate | Busy | NotFound | Archived | Conflict | Empty
CreateOutcome = Created | Duplicate | Conflict

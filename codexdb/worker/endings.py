"""The ways in which a worker lets go of a turn."""

from codexdb.domain import event
from codexdb.domain.transition import TurnState
from codexdb.store.endings import INTERRUPTED, Ending, answered

SUSPENDED = event.background_event("The server is going down; the turn goes on when one works on this database again.")


def failed(kind: str, message: str) -> Ending:
    """The turn could not be worked."""
    return Ending(TurnState.FAILED, kind, event.error(message), error_kind=kind, error_message=message)


__all__ = ["INTERRUPTED", "SUSPENDED", "Ending", "answered", "failed"]

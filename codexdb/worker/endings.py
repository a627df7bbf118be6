"""The ways in which a turn ends that is not answered."""

from codexdb.domain import event
from codexdb.domain.transition import TurnState
from codexdb.store.turns import Ending

INTERRUPTED = Ending(TurnState.INTERRUPTED, "requested", event.error(event.INTERRUPTED_MESSAGE))
STOPPED = Ending(TurnState.INTERRUPTED, "server_stopped", event.error(event.INTERRUPTED_MESSAGE))


def answered(message: str | None) -> Ending:
    """The model has said its last word."""
    return Ending(TurnState.COMPLETED, "answered", event.task_complete(message), last_agent_message=message)


def failed(kind: str, message: str) -> Ending:
    """The turn could not be worked."""
    return Ending(TurnState.FAILED, kind, event.error(message), error_kind=kind, error_message=message)

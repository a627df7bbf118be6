"""What one turn may cost before it is ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TurnBudget:
    """Bounds of one turn. None: no bound."""

    requests: int | None = None  # to the model, over all attempts at the turn
    tokens: int | None = None  # of those requests, as the endpoint counts them
    seconds: int | None = None  # of the present attempt: time in which no server worked on it costs nothing

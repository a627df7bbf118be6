"""What one turn may cost before it is ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TurnBudget:
    """Bounds of one turn over all its attempts. None: no bound."""

    requests: int | None = None  # to the model
    tokens: int | None = None  # of all its requests, as the endpoint counts them
    seconds: int | None = None  # since it began

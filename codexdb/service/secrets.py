"""Secret-valued settings of sessions, kept in this process's memory and nowhere else."""

from codexdb.domain.json import JsonObject


class Secrets:
    """Session id → the overrides that may not be stored. A rescued turn that needs them fails with a clear kind."""

    def __init__(self) -> None:
        self._values: dict[str, JsonObject] = {}
        self._waiting: dict[str, dict[str, JsonObject]] = {}  # session id → turn id → what counts from that turn on

    def keep(self, session_id: str, values: JsonObject) -> None:
        """Add to what is known of a session."""
        if values:
            self._values[session_id] = {**self._values.get(session_id, {}), **values}

    def keep_for_turn(self, session_id: str, turn_id: str, values: JsonObject) -> None:
        """The same, from the beginning of a turn on."""
        if values:
            self._waiting.setdefault(session_id, {})[turn_id] = values

    def drop_for_turn(self, session_id: str, turn_id: str) -> None:
        """The turn is not to be."""
        self._taken(session_id, turn_id)

    def of(self, session_id: str, turn_id: str | None = None) -> JsonObject | None:
        """What is known of a session; `turn_id`: a turn that begins."""
        if turn_id is not None:
            self.keep(session_id, self._taken(session_id, turn_id))
        later = self._waiting.get(session_id, {}).values()
        # What waits stands in for what is not known yet: the row may name it before the turn is taken up.
        known = {name: value for values in later for name, value in values.items()} | self._values.get(session_id, {})
        return known or None

    def _taken(self, session_id: str, turn_id: str) -> JsonObject:
        waiting = self._waiting.get(session_id, {})
        values = waiting.pop(turn_id, {})
        if not waiting:
            self._waiting.pop(session_id, None)
        return values

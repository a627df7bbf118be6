"""Secret-valued settings of sessions, kept in this process's memory and nowhere else."""

from codexdb.domain.json import JsonObject


class Secrets:
    """Session id → the overrides that may not be stored. A rescued turn that needs them fails with a clear kind."""

    def __init__(self) -> None:
        self._values: dict[str, JsonObject] = {}

    def keep(self, session_id: str, values: JsonObject) -> None:
        if values:
            self._values[session_id] = values

    def of(self, session_id: str) -> JsonObject | None:
        return self._values.get(session_id)

"""Which call of this connection created which conversation: its turns' events are shown under that call's id."""

from codexdb.domain.limits import ORIGINS_MAX
from codexdb.protocol.jsonrpc import RequestId


class Origins:
    """In memory only, and bounded: the oldest are forgotten, whose events then carry the sending call's id."""

    def __init__(self) -> None:
        self._calls: dict[str, RequestId] = {}

    def note(self, session_id: str, request_id: RequestId) -> None:
        if len(self._calls) >= ORIGINS_MAX:
            del self._calls[next(iter(self._calls))]
        self._calls[session_id] = request_id

    def of(self, session_id: str) -> RequestId | None:
        return self._calls.get(session_id)

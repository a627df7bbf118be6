"""Questions to the person behind this connection, as MCP elicitations: each is put once, and its answer decides it."""

import logging
import shlex
from typing import cast

import anyio
from anyio.abc import TaskGroup

from codexdb.domain.approval import ASKED_IN, Decision
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import JsonObject, decode_object
from codexdb.protocol.connection import AskFailedError, Connection
from codexdb.protocol.render import RequestId
from codexdb.service.sessions import SessionService
from codexdb.store.approvals import ApprovalRow

OPEN_QUESTIONS_MAX = 100  # put to one client at a time; more would be read by nobody
BY_ELICITATION = "elicitation"

_logger = logging.getLogger(__name__)
_ACTIONS = {"accept": Decision.APPROVED, "decline": Decision.DENIED, "cancel": Decision.ABORT}
_KINDS = {"exec": "exec-approval", "patch": "patch-approval", "tool": "tool-approval"}
_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "decision": {
            "type": "string",
            "title": "Decision",
            "enum": [decision.value for decision in Decision],
            "default": Decision.APPROVED.value,
        }
    },
    "required": ["decision"],
}


class Asker:
    """Puts the open questions of the sessions that this connection started or opened. Does nothing where the client
    cannot be asked.
    """

    def __init__(self, connection: Connection, service: SessionService, group: TaskGroup) -> None:
        self._connection = connection
        self._service = service
        self._group = group
        self._put: set[str] = set()  # whatever was asked on this connection
        self._open: dict[str, tuple[str, anyio.CancelScope]] = {}  # question → its session, and the wait for its answer

    @property
    def can_ask(self) -> bool:
        agreed = self._connection.initialized
        return agreed is not None and agreed.elicitation

    async def look(self, session_id: str, request_id: RequestId) -> None:
        """Put what is new, and take back what somebody else has answered. `request_id`: of the call that waits."""
        if not self.can_ask:
            return
        pending = {row.approval_id: row for row in await self._service.approvals(session_id)}
        for approval_id, (of_session, scope) in list(self._open.items()):
            if of_session == session_id and approval_id not in pending:
                scope.cancel()
        for approval_id, row in pending.items():
            if approval_id not in self._put and len(self._open) < OPEN_QUESTIONS_MAX:
                self._put.add(approval_id)
                scope = anyio.CancelScope()
                self._open[approval_id] = (session_id, scope)
                self._group.start_soon(self._ask, row, request_id, scope)

    async def _ask(self, row: ApprovalRow, request_id: RequestId, scope: anyio.CancelScope) -> None:
        decision: Decision | None = None
        try:
            with scope:
                answer = await self._connection.ask("elicitation/create", _question(row, request_id))
                decision = read_answer(answer)
        except AskFailedError as error:
            _logger.warning("question %s was not answered: %s", row.approval_id, error)
            if not self._connection.eof.is_set():  # it is there, and says that it cannot: nobody is to wait for it
                decision = Decision.DENIED
        finally:
            del self._open[row.approval_id]
        if decision is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await self._service.decide(row.approval_id, decision, BY_ELICITATION)
        except CodexDBError as error:
            _logger.error("the answer to question %s was lost: %s", row.approval_id, error.message)  # noqa: TRY400
            self._put.discard(row.approval_id)  # so that it is put again


def read_answer(answer: JsonObject) -> Decision:
    """What a client has answered, in any of the dialects; whatever is not understood is a no.

    The original's clients say `{"decision": …}`; those of MCP `{"action": "accept", "content": {"decision": …}}`.
    """
    content = answer.get("content")
    inner = cast("JsonObject", content).get("decision") if isinstance(content, dict) else None
    action = answer.get("action")
    if action in ("decline", "cancel"):  # whatever the form holds: nobody has sent it
        return _ACTIONS[action]
    for given in (answer.get("decision"), inner if action in (None, "accept") else None):
        if given is not None:
            return _decision(given)
    return _ACTIONS.get(str(action), Decision.DENIED)


def _decision(given: object) -> Decision:
    try:
        return Decision(given)
    except ValueError:
        _logger.warning("a decision that nobody knows counts as denied: %.100r", given)
        return Decision.DENIED


def _question(row: ApprovalRow, request_id: RequestId) -> JsonObject:
    """The parameters of the request: a form that any client can show, and the original's own members."""
    question = decode_object(row.question)
    # These are ours: they tell whether what was approved is still what would be done, and where a yes for longer holds.
    ours = ("paths", ASKED_IN)
    more = {f"codex_{name}": value for name, value in question.items() if value is not None and name not in ours}
    return {
        "message": _message(row.kind, question),
        "requestedSchema": _SCHEMA,
        "threadId": row.session_id,
        "codex_elicitation": _KINDS[row.kind],
        "codex_mcp_tool_call_id": row.submission_id if request_id is None else str(request_id),
        "codex_event_id": row.submission_id,
        "codex_call_id": row.call_id,
        **more,
    }


def _message(kind: str, question: JsonObject) -> str:
    if kind == "exec":
        command = shlex.join(cast("list[str]", question["command"]))
        return f"Allow Codex to run `{command}` in `{question['cwd']}`?"
    if kind == "patch":
        reason = question.get("reason")
        return (f"{reason}\n" if reason else "") + "Allow Codex to apply proposed code changes?"
    return f"Allow Codex to call the tool `{question['tool']}` of `{question['server']}`?"

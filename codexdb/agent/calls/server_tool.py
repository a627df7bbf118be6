"""Calls of tools of configured MCP servers."""

from codexdb.agent.calls.context import CallContext, answered, ask, refuse, settle_intent
from codexdb.agent.journal import Journal
from codexdb.agent.tools.mcp_result import McpTool, needs_approval
from codexdb.agent.tools.mcp_servers import McpTools, parse
from codexdb.domain import crash, event
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.json import JsonObject
from codexdb.domain.record import CallDecided, CallEnded, CallStarted, Entry, NewItem, OpenCall
from codexdb.domain.transition import ApprovalState

REJECTED = "tool call rejected by user"


async def run_server_tool(
    context: CallContext, servers: McpTools, tool: McpTool, journal: Journal, call: OpenCall, arguments: str
) -> list[Item] | None:
    """See `run_call`."""
    given = parse(arguments)
    if isinstance(given, str):
        return [refuse(journal, call, given)]
    known = (tool.server, tool.tool) in context.remembered.tools
    match answered(call):
        case ApprovalState.PENDING:
            return None
        case ApprovalState.APPROVED:
            return await _call(context, servers, tool, journal, call, given)
        case None if known or not needs_approval(tool.annotations, context.settings.approval_policy):
            return await _call(context, servers, tool, journal, call, given)
        case None:
            question: JsonObject = {"server": tool.server, "tool": tool.tool, "arguments": given}
            told = event.background_event(f"A person is asked whether {tool.tool} of {tool.server} may be called.")
            denied = ask(context, journal, call, "tool", question, [told])
            return None if denied is None else [denied]
        case _:
            return [refuse(journal, call, REJECTED)]


async def _call(
    context: CallContext, servers: McpTools, tool: McpTool, journal: Journal, call: OpenCall, given: JsonObject
) -> list[Item]:
    call_id = str(call.item["call_id"])
    begin = event.mcp_tool_call_begin(call_id, tool.server, tool.tool, given)
    await settle_intent(
        context, journal, Entry(calls=[CallDecided(call.id, approved=True), CallStarted(call.id)], events=[begin])
    )
    crash.point("call.intended")
    result = await servers.call(tool.spec.name, given)
    crash.point("call.ran")
    image = result.message(tool.spec.name)
    text = result.output(context.output_bytes_max)
    given_back = [function_call_output(call_id, text), *([image] if image is not None else [])]
    end = event.mcp_tool_call_end(call_id, tool.server, tool.tool, given, result.duration_ns, result.event)
    state = "failed" if result.failed else "succeeded"
    items = [NewItem(item) for item in given_back]
    journal.append(Entry(calls=[CallEnded(call.id, state, None, text)], items=items, events=[end]))
    crash.point("call.recorded")
    return given_back

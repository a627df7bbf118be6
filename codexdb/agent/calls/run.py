"""One tool call from the model's request to its output, by the kind of tool."""

from codexdb.agent.calls.command import run_command
from codexdb.agent.calls.context import CallContext, refuse
from codexdb.agent.calls.image import run_view_image
from codexdb.agent.calls.patch import run_patch
from codexdb.agent.calls.plan import run_update_plan
from codexdb.agent.calls.server_tool import run_server_tool
from codexdb.agent.journal import Journal
from codexdb.agent.tools import plan, view_image
from codexdb.agent.tools.patch import spec as patch_spec
from codexdb.agent.tools.patch.wording import shortened
from codexdb.domain.item import Item
from codexdb.domain.record import OpenCall

SHELL_NAMES = frozenset({"shell", "container.exec"})  # the second is what some models were trained to say
PATCH_NAME = "apply_patch"


async def run_call(  # noqa: PLR0911 - one kind of tool after another
    context: CallContext, journal: Journal, call: OpenCall
) -> list[Item] | None:
    """Work off a call that is on record; returns what it gives, its output first, which is appended by then. None: a
    person was asked, now or before, and has not answered.

    Nothing happens before its intent is committed. Every failure of the call is an output that tells the model.
    """
    name, arguments = str(call.item["name"]), str(call.item["arguments"])
    if name in SHELL_NAMES:
        return _alone(await run_command(context, journal, call))
    if name == PATCH_NAME:
        given = patch_spec.parse(arguments)
        if isinstance(given, str):
            return [refuse(journal, call, given)]
        return _alone(await run_patch(context, journal, call, given.input, context.settings.cwd))
    if name == plan.SPEC.name and context.settings.include_plan_tool:
        return [run_update_plan(journal, call, arguments)]
    if name == view_image.SPEC.name:
        return await run_view_image(context, journal, call, arguments)
    tool = await context.mcp.find(name) if context.mcp is not None else None
    if context.mcp is not None and tool is not None:
        return await run_server_tool(context, context.mcp, tool, journal, call, arguments)
    return [refuse(journal, call, f"unsupported call: {shortened(name)}")]


def _alone(output: Item | None) -> list[Item] | None:
    return None if output is None else [output]

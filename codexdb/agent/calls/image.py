"""Calls of `view_image`: they only read, so they are on record in one commit, with the image."""

from codexdb.agent.calls.context import CallContext, refuse
from codexdb.agent.journal import Journal
from codexdb.agent.tools import view_image
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.record import CallChange, CallDecided, CallEnded, CallStarted, Entry, NewItem, OpenCall


async def run_view_image(context: CallContext, journal: Journal, call: OpenCall, arguments: str) -> list[Item]:
    """See `run_call`. The image is a message of its own, for not every wire takes one in an output."""
    given = view_image.parse(arguments, cwd=context.settings.cwd)
    if isinstance(given, view_image.Refused):
        return [refuse(journal, call, given.text)]
    seen = await view_image.view(given)
    if isinstance(seen, view_image.Refused):
        return [refuse(journal, call, seen.text)]
    output = function_call_output(str(call.item["call_id"]), seen.output)
    changes: list[CallChange] = [
        CallDecided(call.id, approved=True),
        CallStarted(call.id),
        CallEnded(call.id, "succeeded", None, seen.output),
    ]
    given_back = [output, seen.message]
    journal.append(Entry(calls=changes, items=[NewItem(item) for item in given_back]))
    return given_back

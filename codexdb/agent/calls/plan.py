"""Calls of `update_plan`: no effect but the record itself."""

from codexdb.agent.calls.context import refuse
from codexdb.agent.journal import Journal
from codexdb.agent.tools import plan
from codexdb.domain import event
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.json import JsonObject
from codexdb.domain.record import CallChange, CallDecided, CallEnded, CallStarted, Entry, NewItem, OpenCall


def run_update_plan(journal: Journal, call: OpenCall, arguments: str) -> Item:
    """Decided, started and ended in one commit."""
    given = plan.parse(arguments)
    if isinstance(given, str):
        return refuse(journal, call, given)
    output = function_call_output(str(call.item["call_id"]), plan.DONE)
    steps = [step.model_dump(mode="json") for step in given.plan]
    changes: list[CallChange] = [
        CallDecided(call.id, approved=True),
        CallStarted(call.id),
        CallEnded(call.id, "succeeded", None, plan.DONE),
    ]
    shown = event.plan_update(given.explanation, steps)
    latest: JsonObject = {"explanation": given.explanation, "plan": steps}
    journal.append(Entry(calls=changes, items=[NewItem(output)], events=[shown], plan=latest))
    return output

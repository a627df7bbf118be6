"""docs/states.md, made from the transition table."""

from codexdb.domain.transition import TABLES, TransitionTable

_HEAD = """\
# States

Made from `codexdb/domain/transition.py` by `python -m tests.docs.generate`; do not edit.

Three kinds of rows have a state. The moves below are the only ones: a trigger of the database refuses every other
change, whoever tries it. CHECK constraints tie data to states, for instance that exactly a running turn has a worker;
[schema.md](schema.md) has them. A state that nothing leaves is final.

A turn begins as `running`, since whoever accepts a message works on it, or as `queued` behind another. The turn of a
worker that died or stopped becomes `ready`, and `running` again under another one, or ends. `waiting`, and all of
approvals, are in the schema already but not entered in this release.
"""

TITLES = {"turns": "Turn", "tool_calls": "Tool call", "approvals": "Approval"}

MEANINGS = {
    "turns": {
        "queued": "Accepted, behind another turn of its session, whose end begins it.",
        "ready": "Holds its session; no worker has it, and one may claim it.",
        "running": "Holds its session; the worker in `worker_id` has it.",
        "waiting": "Holds its session; a person's answer is needed before it goes on, and no worker has it.",
        "completed": "The model has said its last word, which is in `last_agent_message`.",
        "failed": "It could not be worked to its end. `error_kind` and `error_message` say why.",
        "interrupted": "It was ended from outside: on request, or (`server_stopped`) because it was not to go on.",
    },
    "tool_calls": {
        "proposed": "The model asked for it. Nothing was done.",
        "approved": "It may be run. Nothing was done.",
        "denied": "It was refused. Nothing was done, and the model was told why.",
        "started": "Its intent is committed. From here on it may have had an effect.",
        "succeeded": "It ended as it should; a command with exit code 0.",
        "failed": "It ended otherwise: another exit code, a time-out, a signal, or no process could be started.",
        "unknown": "The server died before its outcome. Its effect is not known; the model is told. Not run again.",
        "aborted": "Its turn ended, or its server went down in order, before it did. What it did until then stands.",
    },
    "approvals": {
        "pending": "Nobody has answered.",
        "approved": "A person said yes.",
        "denied": "A person said no, or nobody could be asked.",
        "withdrawn": "Its turn ended first.",
    },
}


def page() -> str:
    """The whole text of docs/states.md."""
    return "\n".join([_HEAD, *(_section(table) for table in TABLES)])


def _section(table: TransitionTable) -> str:
    meanings = MEANINGS[table.table]
    states = [f"| `{state}` | {_kind(table, state)} | {meanings[state]} |" for state in table.states]
    moves = [f"| {move.verb} | `{move.source}` | `{move.target}` |" for move in table.moves]
    lines = [
        f"## {TITLES[table.table]} (`{table.table}.state`)",
        "",
        *_diagram(table),
        "",
        "| state | place | means |",
        "|---|---|---|",
        *states,
        "",
        "| verb | from | to |",
        "|---|---|---|",
        *moves,
        "",
    ]
    return "\n".join(lines)


def _kind(table: TransitionTable, state: str) -> str:
    if state in table.terminal:
        return "final"
    return "first" if state in table.initial else "between"


def _diagram(table: TransitionTable) -> list[str]:
    begin = [f"    [*] --> {state}" for state in table.initial]
    moves = [f"    {move.source} --> {move.target} : {move.verb}" for move in table.moves]
    end = [f"    {state} --> [*]" for state in table.terminal]
    return ["```mermaid", "stateDiagram-v2", *begin, *moves, *end, "```"]

"""What events show of a patch: a map from absolute path to change, in the order of the patch."""

from codexdb.agent.tools.patch import unified
from codexdb.agent.tools.patch.verify import FileChange, Plan
from codexdb.domain.json import JsonObject

_CONTEXT_LINES = 1  # as the original shows


def changes(plan: Plan) -> JsonObject:
    """`{path: {"add": {"content"}} | "delete" | {"update": {"unified_diff", "move_path"}}}`, the net effect per path.

    Files that the patch holds whole are shown as added, also where they replace one.
    """
    by_path = {change.path: change for change in plan.changes}
    origins = _origins(plan, by_path)
    sources = {source: target for target, source in origins.items()}
    shown: JsonObject = {}
    for change in plan.changes:
        if change.path in origins:
            continue
        target = by_path.get(sources.get(change.path, ""))
        if target is not None:
            shown[change.shown] = _update(change, target, target.shown)
        elif change.after is None:
            if change.before.exists or not _passing(plan, change):
                shown[change.shown] = "delete"
        elif change.whole or not change.before.exists:
            shown[change.shown] = {"add": {"content": change.after.decode(errors="replace")}}
        else:
            shown[change.shown] = _update(change, change, None)
    return shown


def _origins(plan: Plan, by_path: dict[str, FileChange]) -> dict[str, str]:
    """For each file that is another one in a new place: which."""
    origins: dict[str, str] = {}
    for source, target in plan.moves:
        origins[target] = origins.pop(source, source)
    return {
        target: source
        for target, source in origins.items()
        if by_path[source].after is None
        and by_path[source].before.exists
        and by_path[target].after is not None
        and not by_path[target].whole
    }


def _passing(plan: Plan, change: FileChange) -> bool:
    """Nothing stood there before, and nothing will."""
    return any(change.path in move for move in plan.moves)


def _update(before: FileChange, after: FileChange, move_path: str | None) -> JsonObject:
    old, new = before.before.content or b"", after.after or b""
    same = old == new
    diff = "" if same else unified.hunks(old.decode(errors="replace"), new.decode(errors="replace"), _CONTEXT_LINES)
    return {"update": {"unified_diff": diff, "move_path": move_path}}

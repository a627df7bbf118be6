"""Summaries of long sessions: what the model is asked for, and what it sees from then on.

A summary is an item of type `compaction` that holds all that replaces the items before it. They stay on record.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from codexdb.agent.history import token_guess
from codexdb.domain.item import Item, input_text, is_context, texts, user_message

KEPT_TOKENS_MAX = 20_000  # of user messages that are kept word for word; a summary is worth little without them

PROMPT = """\
Stop working for a moment and write a hand-over. Another model will go on from your text and from the user's messages;
it sees nothing else of this conversation. Write down, briefly and with names and paths:
- what the user wants, and every wish or limit that still holds;
- what was done and decided, and why; what was tried and did not work;
- the present state: files touched, commands that matter, results that will be needed;
- what remains to be done, in order.
Call no tools. Write the hand-over and nothing else."""

_HEADING = (
    "The conversation before this message was summarised to save room. Below is the hand-over that was written then. "
    "Go on from it; do not do again what it says was done."
)


def request_items(items: Sequence[Item], prompt: str | None) -> list[Item]:
    """What is sent to have a summary written."""
    return [*items, user_message([input_text(prompt or PROMPT)])]


def shortened(items: Sequence[Item]) -> list[Item] | None:
    """The items without their oldest quarter, for a request that is itself too long; None: no more can be left out.

    What it begins with is context or a user's message, so no output loses its call.
    """
    context = [item for item in items if is_context(item)]
    rest = [item for item in items if not is_context(item)]
    begins = [number for number, item in enumerate(rest) if item.get("role") == "user"]
    later = next((number for number in begins if number >= max(1, len(rest) // 4)), None)
    if later is not None:
        return [*context, *rest[later:]]
    return _halved(context, rest)


def _halved(context: list[Item], rest: list[Item]) -> list[Item] | None:
    """One long turn: its message, and the later half of what followed, from a place where no call is cut off."""
    head = [item for item in rest[:1] if item.get("role") == "user"]
    open_calls: set[object] = set()
    for number, item in enumerate(rest):
        if not open_calls and number > max(1, len(rest) // 2):
            return [*context, *head, *rest[number:]]
        if item.get("type") == "function_call":
            open_calls.add(item.get("call_id"))
        elif item.get("type") == "function_call_output":
            open_calls.discard(item.get("call_id"))
    return None


def compaction_item(items: Sequence[Item], summary: str) -> Item:
    """The item that replaces these: context, the first and the latest user messages word for word, the summary."""
    replacement = [
        *_latest_context(items),
        *_kept_messages(items),
        user_message([input_text(f"{_HEADING}\n\n{summary}")]),
    ]
    return {"type": "compaction", "summary": summary, "replacement": replacement}


def replacement(compaction: Item) -> list[Item]:
    """What the model sees instead of everything before this item."""
    return cast("list[Item]", compaction["replacement"])


def visible(items: Iterable[Item]) -> list[Item]:
    """What the model sees of the items on record: nothing before the latest summary, and no marks of ours."""
    seen: list[Item] = []
    for item in items:
        if item.get("type") == "compaction":
            seen = replacement(item)[:]
        elif item.get("type") != "compaction_request":
            seen.append(item)
    return seen


def is_fresh(items: Sequence[Item]) -> bool:
    """Whether the model has not been asked since the latest summary, so that no count of tokens is known."""
    for item in reversed(items):
        if item.get("type") == "compaction":
            return True
        if item.get("role") == "assistant" or item.get("type") == "function_call":
            return False
    return False


def _latest_context(items: Sequence[Item]) -> list[Item]:
    """Of each kind of context the latest, where the first of its kind stood."""
    latest: dict[str, Item] = {}
    for item in items:
        kind = is_context(item)
        if kind:
            latest[kind] = item
    return list(latest.values())


def _kept_messages(items: Sequence[Item]) -> list[Item]:
    messages = [item for item in items if item.get("role") == "user" and not is_context(item) and not _is_summary(item)]
    kept: list[Item] = []
    room = KEPT_TOKENS_MAX - sum(map(token_guess, messages[:1]))
    for item in reversed(messages[1:]):
        room -= token_guess(item)
        if room < 0:
            break
        kept.append(item)
    return [*messages[:1], *reversed(kept)]


def _is_summary(item: Item) -> bool:
    return next(iter(texts(item)), "").startswith(_HEADING)

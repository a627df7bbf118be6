"""Summaries of long sessions: what the model is asked for, and what it sees from then on.

A summary is an item of type `compaction` that holds all that replaces the items before it. They stay on record.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from codexdb.agent.history import call_is_open, token_guess
from codexdb.domain.item import UNSEEN, Item, input_text, is_context, texts, user_message

KEPT_TOKENS_MAX = 20_000  # of user messages that are kept word for word; a summary is worth little without them
KEPT_SHARE = 4  # part of the limit that they may take at most, so that a small one is not reached by them alone
SAVED_SHARE = 8  # part of the limit that a summary has to free: else each request would be preceded by one
OUTPUT_CHARS_MIN = 1_000  # an output that is cut for a summary was longer; cutting less makes no room

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

    Context and an earlier summary stay, and so does the message that is being worked on where what is left begins. No
    call loses its output, and nothing its reasoning. Where that leaves everything, the longest outputs are cut.
    """
    kept = [item for item in items if _stays(item)]
    rest = [item for item in items if not _stays(item)]
    begin = next((number for number in _seams(rest) if number >= max(1, len(rest) // 4)), None)
    if begin is None:
        return _with_shorter_outputs([*kept, *rest])
    asked = [item for item in rest[:begin] if item.get("role") == "user"][-1:]
    head = [] if rest[begin].get("role") == "user" else asked
    left = [*head, *rest[begin:]]
    return [*kept, *left] if len(left) < len(rest) else _with_shorter_outputs([*kept, *rest])


def _with_shorter_outputs(items: Sequence[Item]) -> list[Item] | None:
    """The same items, the middle of the longest outputs left out; None: there is none that is long."""
    longest = max((len(_output(item)) for item in items), default=0)
    if longest < OUTPUT_CHARS_MIN:
        return None
    ends = longest // 8
    return [
        {**item, "output": f"{text[:ends]}\n[…]\n{text[-ends:]}"} if len(text) > longest // 2 else item
        for item in items
        for text in [_output(item)]
    ]


def _output(item: Item) -> str:
    output = item.get("output") if item.get("type") == "function_call_output" else None
    return output if isinstance(output, str) else ""


def _seams(items: Sequence[Item]) -> Iterator[int]:
    """Where items may be cut in two: before which of them no call is open, none has more to show, and no reasoning
    lacks what it led to.
    """
    is_open = call_is_open(items)
    for number, item in enumerate(items):
        last = items[number - 1].get("type") if number else None
        if not (number and is_open[number - 1]) and item.get("role") != "tool" and last != "reasoning":
            yield number


def compaction_item(items: Sequence[Item], summary: str, limit: int | None = None) -> Item:
    """The item that replaces these: context, the first and the latest user messages word for word, the summary.

    `limit`: of tokens, at which the session is summarised.
    """
    replacement = [*_kept(items, limit), user_message([input_text(f"{_HEADING}\n\n{summary}")])]
    return {"type": "compaction", "summary": summary, "replacement": replacement}


def is_worth_it(items: Sequence[Item], limit: int) -> bool:
    """Whether a summary would free a good part of what is allowed. What it keeps word for word takes its room again."""
    present = sum(token_guess(item) for item in items if not _is_summary(item))
    return present - sum(map(token_guess, _kept(items, limit))) >= limit // SAVED_SHARE


def is_empty(items: Sequence[Item]) -> bool:
    """Whether there is nothing to summarise: no message yet, or none since the latest summary."""
    return not items or _is_summary(items[-1]) or all(map(is_context, items))


def replacement(compaction: Item) -> list[Item]:
    """What the model sees instead of everything before this item."""
    return cast("list[Item]", compaction["replacement"])


def visible(items: Iterable[Item]) -> list[Item]:
    """What the model sees of the items on record: nothing before the latest summary, and no marks of ours."""
    seen: list[Item] = []
    for item in items:
        if item.get("type") == "compaction":
            seen = replacement(item)[:]
        elif item.get("type") not in UNSEEN:
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


def _kept(items: Sequence[Item], limit: int | None) -> list[Item]:
    """What stays as it is, in an order that makes the same beginning every time."""
    room = KEPT_TOKENS_MAX if limit is None else min(KEPT_TOKENS_MAX, limit // KEPT_SHARE)
    return [*_latest_context(items), *_kept_messages(items, room)]


def _latest_context(items: Sequence[Item]) -> list[Item]:
    """Of each kind of context the latest, where the first of its kind stood."""
    latest: dict[str, Item] = {}
    for item in items:
        kind = is_context(item)
        if kind:
            latest[kind] = item
    return list(latest.values())


def _kept_messages(items: Sequence[Item], room: int) -> list[Item]:
    """The first message and the newest, which is being worked on, whatever their length; of the others the latest."""
    messages = [item for item in items if item.get("role") == "user" and not _stays(item)]
    kept = messages[1:][-1:]
    room -= sum(map(token_guess, [*messages[:1], *kept]))
    for item in reversed(messages[1:-1]):
        room -= token_guess(item)
        if room < 0:
            break
        kept.append(item)
    return [*messages[:1], *reversed(kept)]


def _stays(item: Item) -> bool:
    """Whether it is no part of the talk itself."""
    return bool(is_context(item)) or _is_summary(item)


def _is_summary(item: Item) -> bool:
    return item.get("role") == "user" and next(iter(texts(item)), "").startswith(_HEADING)

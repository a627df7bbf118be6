"""What the model sees, and about how many tokens that is."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from codexdb.agent.wires import shape
from codexdb.domain.item import Item
from codexdb.domain.json import encode

BYTES_PER_TOKEN = 4  # of English and code; a wrong guess costs one early or late summary
IMAGE_TOKENS = 1_500  # of one image, whatever its bytes: endpoints scale it down


class History:
    """Items in their order. `tokens` is what the endpoint counted last, and a guess for what came after that."""

    def __init__(self, items: Iterable[Item], known_tokens: int | None = None, uncounted: int = 0) -> None:
        self.items: list[Item] = list(items)
        self._counted = 0 if known_tokens is None else len(self.items) - uncounted  # so many items of the beginning
        self._known_tokens = known_tokens or 0

    @property
    def tokens(self) -> int:
        return self._known_tokens + sum(map(token_guess, self.items[self._counted :]))

    def add(self, items: Sequence[Item], known_tokens: int | None = None) -> None:
        """Append; `known_tokens`: the endpoint's count of everything, these items included."""
        self.items += items
        if known_tokens is not None:
            self._counted, self._known_tokens = len(self.items), known_tokens

    def replace(self, items: Sequence[Item]) -> None:
        """Go on from these items alone."""
        self.items, self._counted, self._known_tokens = list(items), 0, 0


def as_sent(items: Iterable[Item]) -> list[Item]:
    """What a request holds of the items: messages of tools as the user's, and held back until no call is open, since
    endpoints want the outputs of a response together. The same items always give the same beginning.
    """
    items = list(items)
    sent: list[Item] = []
    held: list[Item] = []
    for item, is_open in zip(items, call_is_open(items), strict=True):
        if item.get("role") == "tool":
            held.append({**item, "role": "user"})
        else:
            sent.append(item)
        if not is_open:
            sent += held
            held = []
    return sent


def call_is_open(items: Sequence[Item]) -> list[bool]:
    """For each item whether behind it a call waits for its output. One that never gets any is not waited for."""
    made: dict[object, list[int]] = defaultdict(list)
    change = [0] * len(items)
    for place, item in enumerate(items):
        calls = made[item.get("call_id")]
        if item.get("type") == "function_call":
            calls.append(place)
        elif item.get("type") == "function_call_output" and calls:
            change[calls.pop()] += 1  # the latest of that id, for some models count theirs anew in each response
            change[place] -= 1
    return [number > 0 for number in accumulate(change)]


def token_guess(item: Item) -> int:
    """About how many tokens an item is."""
    parts = [shape.obj(part) for part in shape.array(item.get("content"))]
    texts = [part for part in parts if part.get("type") != "input_image"]
    if len(texts) == len(parts):
        return len(encode(item)) // BYTES_PER_TOKEN
    return IMAGE_TOKENS * (len(parts) - len(texts)) + len(encode(texts)) // BYTES_PER_TOKEN

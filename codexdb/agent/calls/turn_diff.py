"""The diff of a turn, over all attempts at it: from what stood at each path before the turn's first patch of that."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import anyio.to_thread

from codexdb.agent.tools.patch import diff
from codexdb.agent.tools.patch.disk import NO_FILES, Image
from codexdb.agent.tools.patch.verify import Plan
from codexdb.domain import event
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import TURN_FILES_BYTES_MAX


class TurnDiff:
    """What the turn's patches have touched, and what was told of it. `recorded`: what earlier attempts have had put on
    record, oldest first; `told`: the diff that was told last.
    """

    def __init__(self, recorded: Sequence[JsonObject] = (), told: str = "") -> None:
        self._first: dict[str, Image] = {}
        self._moves: list[tuple[str, str]] = []
        self._told = told
        self._bytes_left = TURN_FILES_BYTES_MAX
        for each in recorded:
            self._moves += [(source, target) for source, target in cast("list[tuple[str, str]]", each["moves"])]
            for path, image in cast("dict[str, JsonObject]", each["images"]).items():
                self._take(path, _image(image))

    def take(self, plan: Plan) -> JsonObject:
        """Take up what a patch is about to change; returns what has to be on record before it does."""
        images = {path: self._take(path, image) for path, image in plan.images.items() if path not in self._first}
        self._moves += plan.moves
        return {"images": {path: _json(image) for path, image in images.items()}, "moves": list(plan.moves)}

    async def tell(self, cwd: str, keep_off: frozenset[tuple[int, int]] = NO_FILES) -> list[event.Event]:
        """The event of what the turn's patches have changed so far, if it is not what was told last."""
        if not self._first:
            return []
        text = await anyio.to_thread.run_sync(lambda: diff.turn_diff(self._first, self._moves, cwd, keep_off=keep_off))
        if text == self._told:
            return []
        self._told = text
        return [event.turn_diff(text)]

    def _take(self, path: str, image: Image) -> Image:
        size = len(image.content or b"")
        kept = image if size <= self._bytes_left else replace(image, content=None)
        self._bytes_left -= len(kept.content or b"")
        self._first[path] = kept
        return kept


def _json(image: Image) -> JsonObject:
    content = None if image.content is None else base64.b64encode(image.content).decode()
    return {
        "kind": image.kind,
        "content": content,
        "mode": image.mode,
        "size": image.size,
        "identity": list(image.identity),
    }


def _image(kept: JsonObject) -> Image:
    content = cast("str | None", kept["content"])
    return Image(
        kind=cast('Literal["absent", "file", "link"]', kept["kind"]),
        content=None if content is None else base64.b64decode(content),
        mode=cast("int", kept["mode"]),
        size=cast("int", kept["size"]),
        identity=tuple(cast("list[int]", kept["identity"])),
    )

"""A caller's message as the model will see it."""

import base64
import hashlib
import mimetypes
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from codexdb.domain.errors import InvalidArgumentsError
from codexdb.domain.foreign_file import open_regular
from codexdb.domain.item import Item, compaction_request, input_image, input_text, user_message
from codexdb.domain.json import JsonObject, encode

COMPACT: list[JsonObject] = [{"type": "compact"}]  # the content of a turn that only summarises
IMAGE_BYTES_MAX = 20 * 1024 * 1024  # of one local image; endpoints refuse more


async def message_item(content: Sequence[JsonObject]) -> Item:
    """The user item for content parts of type `text`, `image` or `local_image`; of one part `compact` alone, the mark
    that asks for a summary.

    Raises:
        InvalidArgumentsError: a local image cannot be read; the message names the part.
    """
    if list(content) == COMPACT:
        return compaction_request()
    parts: list[JsonObject] = []
    for index, part in enumerate(content):
        if part["type"] == "text":
            parts.append(input_text(str(part["text"])))
        elif part["type"] == "image":
            parts.append(input_image(str(part["image_url"])))
        else:
            parts.append(await anyio.to_thread.run_sync(_local_image, index, Path(str(part["path"]))))
    return user_message(parts)


def _local_image(index: int, path: Path) -> JsonObject:
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
            data = file.read(IMAGE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise InvalidArgumentsError(f"content[{index}].path: {path} cannot be read: {error}") from error
    if len(data) > IMAGE_BYTES_MAX:
        raise InvalidArgumentsError(f"content[{index}].path: {path} is larger than {IMAGE_BYTES_MAX} bytes")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return input_image(f"data:{kind};base64,{base64.b64encode(data).decode()}")


def content_hash(content: Sequence[JsonObject]) -> str:
    """Tells equal content from other content; part of the promise that a `message_id` is accepted once."""
    return hashlib.sha256(encode(list(content)).encode()).hexdigest()

"""Images that the model is shown: what they may be, and how they travel.

Wires differ in whether an output of a call may hold an image, and every one has user messages with images. So an image
that a call gives is on record as a message of its own behind the output, and is sent as one of the user.
"""

import base64
from collections.abc import Sequence

from codexdb.domain.item import Item, input_image, input_text, tool_message
from codexdb.domain.json import JsonObject

IMAGE_BYTES_MAX = 5 * 1024 * 1024  # what every known endpoint takes; the image is stored and sent with each request
IMAGES_MAX = 8  # of one call; more fill the model's window without being looked at


def image_type(content: bytes) -> str | None:
    """The media type of a PNG, JPEG, GIF or WebP image, told by its first bytes; None for everything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def data_url(media_type: str, content: bytes) -> str:
    """The image as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def image_message(introduction: str, urls: Sequence[str]) -> Item:
    """The message that shows images to the model; `introduction` tells it where they come from."""
    parts: list[JsonObject] = [input_text(introduction), *(input_image(url) for url in urls)]
    return tool_message(parts)

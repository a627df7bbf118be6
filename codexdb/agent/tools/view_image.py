"""The `view_image` tool: the model looks at an image file."""

import os
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, ValidationError

from codexdb.agent.model import ToolSpec
from codexdb.agent.tools.images import IMAGE_BYTES_MAX, data_url, image_message, image_type
from codexdb.agent.tools.patch.wording import shortened
from codexdb.domain.foreign_file import open_regular
from codexdb.domain.item import Item
from codexdb.domain.validation import explain

SPEC = ToolSpec(
    name="view_image",
    description=(
        "Look at an image file of this machine: PNG, JPEG, GIF or WebP, of 5 MiB at most. The image follows in a "
        "message of its own."
    ),
    parameters={
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "The file; relative to the session's directory.",
            },
        },
        "required": ["path"],
        "additionalProperties": False,
    },
)


@dataclass(frozen=True, slots=True)
class ViewImage:
    """What the model asked for."""

    path: str  # absolute if the session's directory is


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no image to show; `text` tells the model why."""

    text: str


@dataclass(frozen=True, slots=True)
class Viewed:
    """The output of the call, and the message with the image that goes right behind it."""

    output: str
    message: Item


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    path: str


def parse(arguments: str, *, cwd: str) -> ViewImage | Refused:
    """The file that the model's JSON names, or what to tell it where it names none. `cwd`: the session's directory."""
    try:
        given = _Arguments.model_validate_json(arguments)
    except ValidationError as error:
        return Refused(f"failed to parse function arguments: {explain(error)}")
    return ViewImage(os.path.join(cwd, given.path))  # noqa: PTH118 - shown as it was given


async def view(call: ViewImage) -> Viewed | Refused:
    """Read the image. It has no other effect; every failure is a text for the model.

    A cancellation is heard when the file was read, which takes no longer than 5 MiB take.
    """
    return await anyio.to_thread.run_sync(_view, call.path)


def _view(path: str) -> Viewed | Refused:
    name = shortened(path)
    try:
        content = _read(Path(path))
    except OSError as error:
        return Refused(f"unable to view `{name}`: {error.strerror} (os error {error.errno})")
    except ValueError as error:  # also a zero byte in the path
        return Refused(f"unable to view `{name}`: {error}")
    media_type = image_type(content)
    if media_type is None:
        return Refused(f"unable to view `{name}`: it is no PNG, JPEG, GIF or WebP image")
    message = image_message(f"The image at {path}:", [data_url(media_type, content)])
    return Viewed("The image follows in the next message.", message)


def _read(path: Path) -> bytes:
    with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
        content = file.read(IMAGE_BYTES_MAX + 1)
    if len(content) > IMAGE_BYTES_MAX:
        raise ValueError(f"it is larger than {IMAGE_BYTES_MAX} bytes")
    return content

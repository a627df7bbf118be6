"""What MCP servers say about their tools and of their calls, made fit for the model. Pure; takes whatever comes."""

import base64
import hashlib
import re
from dataclasses import dataclass, field

from codexdb.agent.model import ToolSpec
from codexdb.agent.tools.images import IMAGE_BYTES_MAX, IMAGES_MAX, data_url, image_message, image_type
from codexdb.agent.tools.output import Capture
from codexdb.agent.wires import shape
from codexdb.domain import limits
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.session import ApprovalPolicy

TOOL_NAME_CHARS_MAX = 64  # what endpoints take
TOOL_DESCRIPTION_CHARS_MAX = 8 * 1024  # more is a manual, and sent with every request
TOOL_SCHEMA_BYTES_MAX = 64 * 1024  # the same
EVENT_RESULT_BYTES_MAX = 64 * 1024  # of a result in an event, which clients get in one line

_HASH_CHARS = 8  # of a name that was changed; enough to tell a few hundred apart
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


# -- tools -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of a configured server, as the model sees it (`spec`) and as the server calls it."""

    spec: ToolSpec
    server: str
    tool: str
    annotations: JsonObject = field(default_factory=dict[str, object])  # what the server says of it; merely hints


def tool_name(server: str, tool: str) -> str:
    """`server__tool`, made to fit `^[A-Za-z0-9_-]{1,64}$`; the same two always give the same name.

    A name that had to be changed ends in a hash of what it was, so that two that were different stay so.
    """
    name = f"{server}__{tool}"
    fit = _NO_NAME.sub("_", name)
    return name if name == fit and len(name) <= TOOL_NAME_CHARS_MAX else hashed_name(server, tool)


def hashed_name(server: str, tool: str) -> str:
    """The same with the hash in any case, for a name that another tool has already."""
    digest = hashlib.sha256(f"{server}\0{tool}".encode(errors="replace")).hexdigest()[:_HASH_CHARS]
    fit = _NO_NAME.sub("_", f"{server}__{tool}")
    return f"{fit[: TOOL_NAME_CHARS_MAX - _HASH_CHARS - 1]}_{digest}"


def tool_of(server: str, listed: object) -> McpTool | str:
    """A tool that a server lists; or why it cannot be offered, as the end of a sentence."""
    given = shape.obj(listed)
    tool = given.get("name")
    if not isinstance(tool, str) or not tool:
        return "it has no name"
    schema = shape.obj(given.get("inputSchema"))
    parameters = {**schema, "type": "object", "properties": shape.obj(schema.get("properties"))}
    if len(encode(parameters)) > TOOL_SCHEMA_BYTES_MAX:
        return f"its schema is larger than {TOOL_SCHEMA_BYTES_MAX} bytes"
    description = shape.string(given.get("description")) or shape.string(given.get("title"))
    spec = ToolSpec(tool_name(server, tool), description[:TOOL_DESCRIPTION_CHARS_MAX], parameters)
    return McpTool(spec, server, tool, shape.obj(given.get("annotations")))


def needs_approval(annotations: JsonObject, policy: ApprovalPolicy) -> bool:
    """Whether a person is asked before the tool is called: under `untrusted`, unless it says that it only reads."""
    return policy is ApprovalPolicy.UNTRUSTED and annotations.get("readOnlyHint") is not True


# -- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class McpResult:
    """How a call came out. `text` may be long; `output` cuts it as outputs of commands are cut."""

    text: str
    event: JsonObject  # `{"Ok": …}` or `{"Err": …}`, for `mcp_tool_call_end`
    duration_ns: int = 0
    failed: bool = False
    images: tuple[str, ...] = ()  # data URLs, for a message behind the output

    def output(self, bytes_max: int = limits.TOOL_OUTPUT_BYTES_MAX) -> str:
        """The text in at most so many bytes of UTF-8, `limits.TOOL_OUTPUT_STORED_BYTES_MAX` at the most."""
        capture = Capture()
        capture.add("stdout", self.text.encode(errors="replace"))
        capture.finish()
        return capture.text(bytes_max)

    def message(self, name: str) -> Item | None:
        """The message that shows the images to the model, behind the output; None where there are none."""
        return image_message(f"Images that `{name}` returned:", self.images) if self.images else None


def failure(text: str, duration_ns: int = 0) -> McpResult:
    """There is no result of the tool; `text` says why."""
    return McpResult(text, {"Err": text}, duration_ns, failed=True)


def result_of(raw: JsonObject, duration_ns: int) -> McpResult:
    """The result of `tools/call`. `structuredContent` is preferred to the texts, which then say the same."""
    parts = [shape.obj(part) for part in shape.array(raw.get("content"))]
    images = [url for url in map(_image, parts) if url is not None]
    texts = [text for text in map(_text, parts) if text is not None]
    if raw.get("structuredContent") is not None:
        told = [_note(part) for part in parts if part.get("type") not in {"text", "resource"}]
        texts = [encode(raw["structuredContent"]), *(note for note in told if note is not None)]
    if len(images) > IMAGES_MAX:
        texts.append(f"[{len(images) - IMAGES_MAX} further images, not shown]")
    text = "\n".join(texts)
    failed = raw.get("isError") is True
    if failed:
        text = f"The tool reported an error:\n{text}" if text else "The tool reported an error, and nothing else."
    return McpResult(text, {"Ok": _for_event(raw, text)}, duration_ns, failed, tuple(images[:IMAGES_MAX]))


def _text(part: JsonObject) -> str | None:
    """What the model reads of a part; None where there is nothing to read."""
    match part.get("type"):
        case "text":
            return shape.string(part.get("text"))
        case "resource" if text := shape.string(shape.obj(part.get("resource")).get("text")):
            return text
        case _:
            return _note(part)


def _note(part: JsonObject) -> str | None:
    """What the model is told of a part that it cannot read; None for an image, which it sees."""
    kind = shape.string(part.get("type")) or "part"
    resource = shape.obj(part.get("resource")) if kind == "resource" else part
    if kind == "resource_link":
        return f"[resource {shape.string(part.get('uri'))} {shape.string(part.get('name'))}]"
    if _image(part) is not None:
        return None
    address = shape.string(resource.get("uri"))
    media_type = shape.string(resource.get("mimeType")) or "unknown"
    return f"[{' '.join(filter(None, (kind, address)))} of type {media_type}, not shown]"


def _image(part: JsonObject) -> str | None:
    """The image as a data URL; None: it is none, none that endpoints take, or too large."""
    if part.get("type") != "image":
        return None
    data = shape.string(part.get("data"))
    if len(data) > IMAGE_BYTES_MAX // 3 * 4 + 4:
        return None
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    media_type = image_type(content)
    return None if media_type is None or len(content) > IMAGE_BYTES_MAX else data_url(media_type, content)


def _for_event(raw: JsonObject, text: str) -> JsonObject:
    """The result as it came, or, where that is too long for an event, the beginning of its text."""
    if len(encode(raw)) <= EVENT_RESULT_BYTES_MAX:
        return raw
    short = McpResult(text, {}).output(limits.EXEC_EVENT_STREAM_CHARS_MAX)
    return {"content": [{"type": "text", "text": short}], "isError": raw.get("isError") is True}

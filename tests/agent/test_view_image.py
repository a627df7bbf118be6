"""The `view_image` tool: which files become an image for the model, and what it is told of the others."""

import base64
import os
import socket
from pathlib import Path
from typing import cast

import anyio
import pytest

from codexdb.agent.tools.images import IMAGE_BYTES_MAX
from codexdb.agent.tools.view_image import SPEC, Refused, Viewed, ViewImage, parse, view
from codexdb.domain.item import is_context, texts
from codexdb.domain.json import JsonObject, encode

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "image/gif": b"GIF89a\x01\x00\x01\x00",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}


def look(path: Path | str, cwd: Path | None = None) -> Viewed | Refused:
    call = parse(encode({"path": str(path)}), cwd=str(cwd or "/"))
    assert isinstance(call, ViewImage)
    return anyio.run(view, call)


def why(path: Path | str, cwd: Path | None = None) -> str:
    refused = look(path, cwd)
    assert isinstance(refused, Refused)
    return refused.text


@pytest.mark.parametrize("media_type", IMAGES)
def test_an_image_becomes_a_message_behind_the_output(tmp_path: Path, media_type: str) -> None:
    (tmp_path / "picture.txt").write_bytes(IMAGES[media_type])  # what it is, not what it is called
    viewed = look("picture.txt", tmp_path)
    assert isinstance(viewed, Viewed)
    assert viewed.output == "The image follows in the next message."
    assert viewed.message["role"] == "tool"
    text, image = cast("list[JsonObject]", viewed.message["content"])
    assert text == {"type": "input_text", "text": f"The image at {tmp_path}/picture.txt:"}
    encoded = base64.b64encode(IMAGES[media_type]).decode()
    assert image == {"type": "input_image", "image_url": f"data:{media_type};base64,{encoded}"}
    assert not is_context(viewed.message)
    assert texts(viewed.message)


def test_a_link_is_followed_and_an_absolute_path_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(PNG)
    (tmp_path / "link").symlink_to("image")
    assert isinstance(look(tmp_path / "link"), Viewed)
    assert isinstance(look("../link", tmp_path / "x" / ".."), Refused)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"<svg/>", b"RIFF\x24\x00\x00\x00WAVE", b"\x89PN", b"BM"):
        (tmp_path / "a.png").write_bytes(content)
        assert why(tmp_path / "a.png") == f"unable to view `{tmp_path}/a.png`: it is no PNG, JPEG, GIF or WebP image"


def test_what_is_no_regular_file_is_refused_and_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert why(tmp_path / "fifo").endswith("it is not a regular file")
    assert why("/dev/zero").endswith("it is not a regular file")
    assert why(tmp_path).endswith("it is not a regular file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert why(tmp_path / "socket").startswith("unable to view")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert why("none.png", tmp_path) == f"unable to view `{tmp_path}/none.png`: No such file or directory (os error 2)"
    assert "null byte" in why("a\0b")
    (tmp_path / "loop").symlink_to("loop")
    assert why(tmp_path / "loop").startswith("unable to view")


def test_a_name_of_megabytes_is_not_told_back_whole() -> None:
    told = why("/" + "x" * 2_000_000)
    assert told.endswith("`: File name too long (os error 36)")
    assert len(told) < 10_000
    assert "too long" in why("x" * 5_000)


def test_the_largest_image_is_shown_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(PNG)
    os.truncate(path, IMAGE_BYTES_MAX)
    assert isinstance(look(path), Viewed)
    os.truncate(path, IMAGE_BYTES_MAX + 1)
    assert why(path).endswith(f"it is larger than {IMAGE_BYTES_MAX} bytes")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{}", "missing field `path`"),
        ('{"path":1}', "invalid type: integer `1`, expected a string"),
        ('{"path":"a","b":1}', "unknown field `b`"),
        ("[]", "invalid type: sequence, expected a map"),
        ("{", "invalid value"),
    ],
)
def test_arguments_that_cannot_be_used_are_answered_with_the_reason(arguments: str, reason: str) -> None:
    refused = parse(arguments, cwd="/")
    assert isinstance(refused, Refused)
    assert refused.text.startswith("failed to parse function arguments: ")
    assert reason in refused.text


def test_the_tool_asks_for_a_path_and_nothing_it_would_not_read() -> None:
    assert SPEC.parameters["required"] == ["path"]
    assert list(cast("JsonObject", SPEC.parameters["properties"])) == ["path"]
    assert f"{IMAGE_BYTES_MAX // 1024**2} MiB" in SPEC.description

"""The wording of refusals, as clients of the original server compare it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from codexdb.domain.json import JsonObject
from codexdb.domain.validation import QUOTED_CHARS_MAX, explain, location


class Colour(StrEnum):
    DARK_RED = "dark-red"
    GREEN = "green"
    BLUE = "blue"


class Text(BaseModel):
    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


class Image(BaseModel):
    model_config = ConfigDict(strict=True)
    type: Literal["image"]
    image_url: str


class Arguments(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")
    prompt: str
    colour: Annotated[Colour, Field(strict=False)] | None = None
    two: Literal["a", "b"] | None = None
    one: Literal["a"] | None = None
    approval: Annotated[Colour | None, Field(strict=False, alias="approval-policy")] = None
    plan: bool = Field(default=False, alias="include-plan-tool")
    config: dict[str, Any] = {}
    strings: dict[str, str] = {}
    names: list[str] = []
    content: list[Annotated[Text | Image, Field(discriminator="type")]] = []
    nested: Text | None = None
    wait_ms: Annotated[int, Field(ge=0, le=10)] = 0
    share: float = 0.0
    either: str | list[str] = ""
    short: Annotated[str, Field(min_length=1, max_length=3)] = "a"
    few: Annotated[list[str], Field(max_length=1)] = []
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("an odd number of shoes")
        return value


ONE_OF = "expected one of `dark-red`, `green`, `blue`"


REFUSALS: list[tuple[JsonObject, str, str]] = [
    ({}, "missing field `prompt`", "prompt"),
    ({"prompt": 5}, "invalid type: integer `5`, expected a string", "prompt"),
    ({"prompt": -5}, "invalid type: integer `-5`, expected a string", "prompt"),
    ({"prompt": None}, "invalid type: null, expected a string", "prompt"),
    ({"prompt": 1.5}, "invalid type: floating point `1.5`, expected a string", "prompt"),
    ({"prompt": float("nan")}, "invalid type: floating point `NaN`, expected a string", "prompt"),
    ({"prompt": True}, "invalid type: boolean `true`, expected a string", "prompt"),
    ({"prompt": {"a": 1}}, "invalid type: map, expected a string", "prompt"),
    ({"prompt": [1]}, "invalid type: sequence, expected a string", "prompt"),
    ({"include-plan-tool": "x"}, 'invalid type: string "x", expected a boolean', "include-plan-tool"),
    (
        {"include-plan-tool": 'a"\n\x7f'},
        r'invalid type: string "a\"\n\u{7f}", expected a boolean',
        "include-plan-tool",
    ),
    ({"config": 5}, "invalid type: integer `5`, expected a map", "config"),
    ({"strings": {"k": 5}}, "invalid type: integer `5`, expected a string", "strings.k"),
    ({"names": "x"}, 'invalid type: string "x", expected a sequence', "names"),
    ({"names": ["x", False]}, "invalid type: boolean `false`, expected a string", "names[1]"),
    ({"nested": 5}, "invalid type: integer `5`, expected a map", "nested"),
    ({"nested": {"type": "text"}}, "missing field `text`", "nested.text"),
    ({"wait_ms": "x"}, 'invalid type: string "x", expected an integer', "wait_ms"),
    ({"wait_ms": 2.0}, "invalid type: floating point `2.0`, expected an integer", "wait_ms"),
    ({"wait_ms": -1}, "invalid value: integer `-1`, expected a number of at least 0", "wait_ms"),
    ({"wait_ms": 11}, "invalid value: integer `11`, expected a number of at most 10", "wait_ms"),
    ({"share": "x"}, 'invalid type: string "x", expected a number', "share"),
    ({"short": ""}, 'invalid value: string "", expected a length of at least 1', "short"),
    ({"few": ["a", "b"]}, "invalid value: sequence, expected a length of at most 1", "few"),
    ({"even": 3}, "an odd number of shoes", "even"),
    ({"colour": "bogus"}, f"unknown variant `bogus`, {ONE_OF}", "colour"),
    ({"approval-policy": "bogus"}, f"unknown variant `bogus`, {ONE_OF}", "approval-policy"),
    ({"colour": 5}, "invalid type: integer `5`, expected string or map", "colour"),
    ({"two": "c"}, "unknown variant `c`, expected `a` or `b`", "two"),
    ({"one": "c"}, "unknown variant `c`, expected `a`", "one"),
    ({"content": {}}, "invalid type: map, expected a sequence", "content"),
    ({"content": ["x"]}, 'invalid type: string "x", expected a map', "content[0]"),
    ({"content": [{}]}, "missing field `type`", "content[0].type"),
    ({"content": [{"type": "film"}]}, "unknown variant `film`, expected `text` or `image`", "content[0].type"),
    (
        {"content": [{"type": "text", "text": 5}]},
        "invalid type: integer `5`, expected a string",
        "content[0].text",
    ),
    ({"content": [{"type": "text"}]}, "missing field `text`", "content[0].text"),
    (
        {"content": [{"type": "text", "text": "a"}, {"type": "image", "image_url": None}]},
        "invalid type: null, expected a string",
        "content[1].image_url",
    ),
    ({"content": [{"type": "image"}]}, "missing field `image_url`", "content[0].image_url"),
    ({"either": 5}, "invalid type: integer `5`, expected a string", "either"),
]


@pytest.mark.parametrize(("arguments", "text", "path"), REFUSALS)
def test_a_refusal_is_worded_and_placed_as_the_original_does_it(arguments: JsonObject, text: str, path: str) -> None:
    """Also that a missing field, here `prompt`, is reported only once everything given is sound."""
    error = refused(arguments)
    assert explain(error) == text
    assert location(error, arguments) == path


def test_what_an_object_inside_lacks_comes_before_what_the_whole_lacks() -> None:
    error = refused({"nested": {"type": "text"}})
    assert explain(error) == "missing field `text`"


def test_without_unions_the_path_needs_no_data() -> None:
    assert location(refused({"names": [5]})) == "names[0]"


def test_the_whole_has_an_empty_path() -> None:
    error = refused(5)
    assert explain(error) == "invalid type: integer `5`, expected a map"
    assert location(error, 5) == ""


def test_a_long_text_is_cut_where_it_is_quoted() -> None:
    assert len(explain(refused({"colour": "x" * 100_000}))) < QUOTED_CHARS_MAX + 100
    assert len(explain(refused({"plan": False, "include-plan-tool": "x" * 100_000}))) < QUOTED_CHARS_MAX + 100


def test_a_refusal_is_valid_unicode_whatever_was_refused() -> None:
    assert explain(refused({"colour": "\ud800"})).encode()  # and no UnicodeEncodeError


@pytest.mark.parametrize("secret", [12345, "12345", 12345.5])
def test_a_refusal_can_keep_the_value_to_itself(secret: object) -> None:
    for name in ("include-plan-tool", "colour", "names", "content"):
        assert "12345" not in explain(refused({name: secret}), quote=False)


def refused(arguments: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Arguments.model_validate(arguments)
    return caught.value

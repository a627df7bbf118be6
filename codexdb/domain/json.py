"""The type of decoded JSON, and the two functions that read and write it."""

from typing import cast

import pydantic_core

JsonValue = object
JsonObject = dict[str, object]


def encode(value: object) -> str:
    """Compact JSON text. Texts must be free of lone surrogates; numbers that JSON cannot say become null."""
    return pydantic_core.to_json(value, inf_nan_mode="null").decode()


def decode(text: str | bytes) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: where the text is not JSON.
    """
    return pydantic_core.from_json(text)


def decode_object(text: str | bytes) -> JsonObject:
    """Like `decode`, for texts that we wrote ourselves and know to be objects."""
    return cast("JsonObject", pydantic_core.from_json(text))

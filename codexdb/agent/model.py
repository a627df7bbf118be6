"""The model as the turn loop sees it: a request, a stream of events, and errors with a kind."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from codexdb.domain.errors import ModelError
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject
from codexdb.domain.record import Usage


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that the model may call."""

    name: str
    description: str
    parameters: JsonObject  # JSON Schema of an object


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request. The whole history is sent each time; endpoints keep nothing for us."""

    session_id: str  # cache key, and the `session_id` header
    model: str
    instructions: str
    items: Sequence[Item]  # as they are on record, oldest first; every call has its output
    tools: Sequence[ToolSpec]
    reasoning: JsonObject | None = None  # {"effort", "summary"}; None for models that do not reason
    verbosity: str | None = None  # low, medium, high; only the responses wire has a word for it
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the assistant's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of a reasoning summary, or of raw reasoning where `raw`."""

    text: str
    raw: bool = False


@dataclass(frozen=True, slots=True)
class SectionBreak:
    """A new part of the reasoning summary begins."""


@dataclass(frozen=True, slots=True)
class ItemDone:
    """A complete item of the response: message, reasoning, function_call, or one that we do not know."""

    item: Item
    closes: bool = False  # known already to be the last one; where it is not known, `Finished` tells


@dataclass(frozen=True, slots=True)
class Finished:
    """The response is complete. `reason` is "stop", "length" or "content_filter"; always the last event."""

    reason: str = "stop"


ModelEvent = TextDelta | ReasoningDelta | SectionBreak | ItemDone | Usage | Finished


class RequestFailed(ModelError):  # noqa: N818 - an outcome that the loop decides about
    """One model request failed. `again` and `retry_after_ms` tell the loop whether and when to try again; `too_long`
    that the same conversation will never do, but a summary of it may.
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool,
        retry_after_ms: int | None = None,
        status: int | None = None,
        too_long: bool = False,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.retry_after_ms = retry_after_ms
        self.status = status
        self.too_long = too_long


class ModelClient(Protocol):
    """An endpoint on one wire."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Send the request and yield what comes back, ending with `Finished`.

        Closing the iterator early (also by cancellation) drops the connection.

        Raises:
            RequestFailed: status, transport, time-out or protocol failure.
            CredentialsMissingError: the provider's key is not in the environment; nothing was sent.
        """
        ...

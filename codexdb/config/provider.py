"""Model providers: where the model lives, and how to talk to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class WireApi(StrEnum):
    """The protocol of an endpoint."""

    CHAT = "chat"  # POST {base_url}/chat/completions
    RESPONSES = "responses"  # POST {base_url}/responses


@dataclass(frozen=True, slots=True)
class Provider:
    """One `[model_providers.<id>]` table, resolved. Holds secrets: never stored, never logged, not in its repr."""

    id: str
    name: str
    base_url: str = field(repr=False)
    wire_api: WireApi = WireApi.CHAT
    env_key: str | None = None  # the environment variable that holds the key
    env_key_instructions: str | None = None
    query_params: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    http_headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    env_http_headers: Mapping[str, str] = field(default_factory=dict[str, str])  # header name → environment variable
    request_max_retries: int = 4
    stream_max_retries: int = 5
    stream_idle_timeout_ms: int = 300_000

    def missing_key(self, environ: Mapping[str, str]) -> str | None:
        """The environment variable that should hold the key and does not; a blank one counts as missing."""
        return self.env_key if self.env_key is not None and not environ.get(self.env_key, "").strip() else None

"""Which model providers there are: two built in, and those of config.toml."""

from collections.abc import Mapping

from codexdb import __version__
from codexdb.config.provider import Provider, WireApi
from codexdb.config.schema import Config, ProviderTable
from codexdb.domain.errors import InvalidConfigError

RETRIES_MAX = 100  # of one request, and of one stream; the original's cap
STREAM_IDLE_TIMEOUT_MS_MAX = 24 * 3_600_000  # no model thinks for a day without a word

_OPENAI_URL = "https://api.openai.com/v1"
_OPENAI_KEY = "OPENAI_API_KEY"
_OSS_PORT = 11_434  # Ollama's


def find_provider(provider_id: str, config: Config, environ: Mapping[str, str]) -> Provider:
    """The provider of that id. A user's table does not replace a built-in one of the same name.

    Raises:
        InvalidConfigError: there is none, or it does not say where it is.
    """
    if provider_id == "openai":
        return _openai(environ)
    if provider_id == "oss":
        return _oss(environ)
    table = config.model_providers.get(provider_id)
    if table is None:
        raise InvalidConfigError(f"Model provider `{provider_id}` not found")
    if not table.base_url:
        # An override that replaces the whole table drops its address. Falling back to some other endpoint would send
        # the conversation, and perhaps a key, to where nobody meant it to go.
        raise InvalidConfigError(f"Model provider `{provider_id}` has no base_url")
    return _configured(provider_id, table, table.base_url)


def _openai(environ: Mapping[str, str]) -> Provider:
    return Provider(
        id="openai",
        name="OpenAI",
        base_url=_set(environ, "OPENAI_BASE_URL") or _OPENAI_URL,
        wire_api=WireApi.RESPONSES,
        env_key=_OPENAI_KEY,
        env_key_instructions="Create a key at https://platform.openai.com/api-keys and export it to this server.",
        http_headers={"version": __version__},
        env_http_headers={"OpenAI-Organization": "OPENAI_ORGANIZATION", "OpenAI-Project": "OPENAI_PROJECT"},
    )


def _oss(environ: Mapping[str, str]) -> Provider:
    given = _set(environ, "CODEX_OSS_PORT") or ""
    port = int(given) if given.isascii() and given.isdigit() and len(given) <= 5 else _OSS_PORT
    return Provider(
        id="oss",
        name="Open source models",
        base_url=_set(environ, "CODEX_OSS_BASE_URL") or f"http://localhost:{port}/v1",
        wire_api=WireApi.CHAT,
    )


def _configured(provider_id: str, table: ProviderTable, base_url: str) -> Provider:
    headers = dict(table.http_headers)
    env_key = table.env_key or (_OPENAI_KEY if table.requires_openai_auth else None)
    if env_key is None and table.experimental_bearer_token:
        headers["Authorization"] = f"Bearer {table.experimental_bearer_token}"
    return Provider(
        id=provider_id,
        name=table.name,
        base_url=base_url,
        wire_api=table.wire_api,
        env_key=env_key,
        env_key_instructions=table.env_key_instructions,
        query_params=table.query_params,
        http_headers=headers,
        env_http_headers=table.env_http_headers,
        request_max_retries=min(table.request_max_retries, RETRIES_MAX),
        stream_max_retries=min(table.stream_max_retries, RETRIES_MAX),
        stream_idle_timeout_ms=min(table.stream_idle_timeout_ms, STREAM_IDLE_TIMEOUT_MS_MAX),
    )


def _set(environ: Mapping[str, str], name: str) -> str | None:
    """The variable's value; a blank one counts as unset."""
    return environ.get(name, "").strip() or None

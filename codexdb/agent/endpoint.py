"""One model endpoint over HTTP: sends requests, reads streams, and says what failed in the texts that clients know."""

import logging
import os
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit

import anyio
import anyio.to_thread

import codexdb
from codexdb.agent import failure
from codexdb.agent.history import as_sent
from codexdb.agent.model import ModelEvent, ModelRequest, RequestFailed
from codexdb.agent.sse import SseReader
from codexdb.agent.wires import chat, responses, shape
from codexdb.config.provider import Provider, WireApi
from codexdb.domain import json, limits
from codexdb.domain.clock import Clock, SystemClock
from codexdb.domain.errors import CredentialsMissingError

if TYPE_CHECKING:
    import httpx2

CONNECTIONS_IDLE_MAX = 20  # kept open for the next request; each costs every request 15 µs, for it is probed
CONNECTION_IDLE_MS = 30_000  # common servers and proxies close an idle connection after 60 s
USAGE_WAIT_MS = 2_000  # chat tells usage after the answer is complete; no answer is held back for longer than this
DRAIN_WAIT_MS = 100  # for the end of the body after the last event, so that the connection can be used again
SECRET_CHARS_MIN = 8  # a shorter value is no secret, and hiding it would hide words of the text


class HttpEndpoint:
    """The `ModelClient` of one provider. Keep one per provider: it remembers what the endpoint does not accept."""

    def __init__(self, provider: Provider, clock: Clock | None = None) -> None:
        self._provider = provider
        self._clock = clock or SystemClock()
        self._chat = provider.wire_api is WireApi.CHAT
        self._include_usage = True
        path = "/chat/completions" if self._chat else "/responses"
        self._url = provider.base_url.rstrip("/") + path
        self._shown_url = _shown(self._url)  # None: no address at all

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelClient.stream`. Secrets of the provider never appear in what is raised."""
        headers = self._headers(request)
        request = replace(request, items=as_sent(request.items))
        response: httpx2.Response | None = None
        try:
            response = await self._open(request, headers)
            decoder = chat.ChatDecoder() if self._chat else responses.ResponsesDecoder()
            body = _Body(response)
            while not body.ended:
                for name, data in await body.read(decoder):
                    for event in decoder.feed(name, data):
                        yield event
            for event in decoder.end():
                yield event
        except RequestFailed as error:
            cleaned = self._without_secrets(error, headers)
            if cleaned is error:
                raise
            raise cleaned from None
        finally:
            if response is not None:
                await response.aclose()

    # -- request -----------------------------------------------------------------------------------------------------

    def _headers(self, request: ModelRequest) -> dict[str, str]:
        provider = self._provider
        headers = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # packing delays events
            "content-type": "application/json",
            "user-agent": f"codexdb/{codexdb.__version__}",
        }
        if not self._chat:
            headers |= {
                "openai-beta": "responses=experimental",
                "originator": "codexdb",
                "session_id": request.session_id,
            }
        if (missing := provider.missing_key(os.environ)) is not None:
            hint = f" {provider.env_key_instructions}" if provider.env_key_instructions else ""
            raise CredentialsMissingError(f"Missing environment variable: `{missing}`.{hint}")
        if provider.env_key is not None:
            headers["authorization"] = f"Bearer {os.environ[provider.env_key].strip()}"
        headers |= {name.lower(): value for name, value in provider.http_headers.items()}
        for name, variable in provider.env_http_headers.items():
            if (value := os.environ.get(variable, "")).strip():
                headers[name.lower()] = value
        return headers

    async def _open(self, request: ModelRequest, headers: dict[str, str]) -> "httpx2.Response":
        asked_usage = self._chat and self._include_usage
        response = await self._send(request, headers, include_usage=asked_usage)
        if response.is_success:
            return response
        body = await _error_body(response)
        if response.status_code == 400 and asked_usage and _refuses_usage(body):
            self._include_usage = False
            return await self._open(request, headers)
        error = shape.obj(shape.parse(body).get("error"))
        codes = (error.get("code"), error.get("type"))
        wait = failure.asked_wait_ms(response.headers, self._clock)
        raise failure.unexpected_status(response.status_code, body, codes, wait)

    async def _send(self, request: ModelRequest, headers: dict[str, str], *, include_usage: bool) -> "httpx2.Response":
        """The answer's head.

        Raises:
            RequestFailed: there was none.
        """
        if self._shown_url is None:
            raise failure.not_sent("unreadable base_url", again=False)
        client = await open_client()
        import httpx2

        if self._chat:
            body = chat.request_body(request, include_usage=include_usage)
        else:
            body = responses.request_body(request)
        idle_s = self._provider.stream_idle_timeout_ms / 1_000
        connect_s = limits.CONNECT_TIMEOUT_MS / 1_000
        try:
            return await client.send(
                httpx2.Request(
                    "POST",
                    self._url,
                    params=urlencode(self._provider.query_params) or None,
                    headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                    content=json.encode(body).encode(),
                    extensions={"timeout": {"connect": connect_s, "read": idle_s, "write": idle_s, "pool": None}},
                ),
                stream=True,
            )
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            raise failure.not_sent(self._shown_url, again=False) from error
        except httpx2.ReadTimeout as error:
            raise failure.lost("idle timeout waiting for SSE") from error
        except httpx2.TransportError as error:
            raise failure.not_sent(self._shown_url) from error

    def _without_secrets(self, error: RequestFailed, headers: dict[str, str]) -> RequestFailed:
        """Some endpoints repeat the key that they refuse."""
        configured = {name.lower() for name in (*self._provider.http_headers, *self._provider.env_http_headers)}
        secrets = [value for name, value in headers.items() if name in configured]
        secrets += [headers.get("authorization", "").removeprefix("Bearer "), *self._provider.query_params.values()]
        text = str(error)
        for secret in secrets:
            if len(secret) >= SECRET_CHARS_MIN:
                text = text.replace(secret, "[redacted]")
        if text == str(error):
            return error
        return RequestFailed(
            text,
            again=error.again,
            retry_after_ms=error.retry_after_ms,
            status=error.status,
            too_long=error.too_long,
        )


def _shown(url: str) -> str | None:
    """The address without user-info, query and fragment, which may hold secrets; None where it is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks its range
    except ValueError:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _refuses_usage(body: str) -> bool:
    return "stream_options" in body or "include_usage" in body


# -- answer ----------------------------------------------------------------------------------------------------------


async def _error_body(response: "httpx2.Response") -> str:
    """The beginning of an answer that is shown to people; what cannot be read is left out."""
    import httpx2

    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= limits.ERROR_BODY_BYTES_MAX:
                break
    except (httpx2.TransportError, httpx2.DecodingError):
        pass
    finally:
        await response.aclose()
    return body[: limits.ERROR_BODY_BYTES_MAX].decode("utf-8", "replace")


class _Body:
    """The body of a response while it arrives."""

    def __init__(self, response: "httpx2.Response") -> None:
        self.ended = False
        self._chunks = response.aiter_bytes()
        self._reader = SseReader()
        self._size = 0

    async def read(self, decoder: shape.Decoder) -> list[tuple[str, str]]:
        """Wait for the next bytes; the server-sent events that they complete.

        A complete answer is waited on for a moment only, and cannot be lost any more.

        Raises:
            RequestFailed: connection lost, silence, or more than a bound allows.
        """
        if not decoder.complete:
            return self._take(await self._receive())
        chunk = b""
        with anyio.move_on_after((DRAIN_WAIT_MS if decoder.done else USAGE_WAIT_MS) / 1_000):
            try:
                chunk = await self._receive()
            except RequestFailed:
                chunk = b""
        return self._take(chunk)

    def _take(self, chunk: bytes) -> list[tuple[str, str]]:
        if not chunk:
            self.ended = True
            return self._reader.end()
        self._size += len(chunk)
        if self._size > limits.RESPONSE_BYTES_MAX:
            raise failure.lost(f"the response is longer than {limits.RESPONSE_BYTES_MAX} bytes", again=False)
        return self._reader.feed(chunk)

    async def _receive(self) -> bytes:
        import httpx2

        try:
            return await anext(self._chunks, b"")
        except httpx2.ReadTimeout as error:
            raise failure.lost("idle timeout waiting for SSE") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise failure.lost("Transport error: error decoding response body") from error


# -- connections -----------------------------------------------------------------------------------------------------


class _Shared(NamedTuple):
    loop: AbstractEventLoop
    client: "httpx2.AsyncClient"


_shared: _Shared | None = None


async def open_client() -> "httpx2.AsyncClient":
    """The client of this process, with its pool of connections; made at the first call, which costs 0.2 s of a thread.

    Call it early to have that behind you.

    Raises:
        RequestFailed: the proxy or certificate settings of the environment cannot be used.
    """
    global _shared  # noqa: PLW0603 - one pool per process is the point
    loop = get_running_loop()
    if _shared is None or _shared.loop is not loop:
        client = await anyio.to_thread.run_sync(_new_client)
        if _shared is None or _shared.loop is not loop:  # another request may have been faster
            _shared = _Shared(loop, client)
    return _shared.client


def _new_client() -> "httpx2.AsyncClient":
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    for name in ("httpx2", "httpcore2"):  # they log addresses with their query, and headers
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return httpx2.AsyncClient(
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # providers and sessions share the client
            limits=httpx2.Limits(
                max_connections=None,  # running turns are bounded elsewhere
                max_keepalive_connections=CONNECTIONS_IDLE_MAX,
                keepalive_expiry=CONNECTION_IDLE_MS / 1_000,
            ),
        )
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        why = "the proxy or certificate settings in the environment cannot be used (SOCKS proxies are not supported)"
        raise RequestFailed(why, again=False) from error


async def close() -> None:
    """Close the shared client and its connections. Requests still running fail; a later one opens a new client."""
    global _shared
    shared, _shared = _shared, None
    if shared is not None and shared.loop is get_running_loop():
        await shared.client.aclose()

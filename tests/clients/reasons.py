"""What client libraries say when they cancel a call, as seen on the wire; the server has to tell the two apart."""

from typing import NamedTuple


class Reasons(NamedTuple):
    """The `reason` of `notifications/cancelled`. None: the library sends nothing, it just stops waiting."""

    timed_out: str | None  # the library's own time-out, set to two seconds
    given_up: str | None  # the caller's task was cancelled, or its abort signal raised


# Programs of this folder: their tests see these texts come from the library itself.
OBSERVED = {
    "python_sdk_2": Reasons("timed out after 2s", "caller cancelled"),
    "python_sdk_1": Reasons(None, None),
    "typescript_sdk_1": Reasons(
        "McpError: MCP error -32001: Request timed out", "AbortError: This operation was aborted"
    ),
    "typescript_client_2": Reasons("SdkError: Request timed out", "AbortError: This operation was aborted"),
}

# Seen once, by hand; the libraries are not installed for the tests.
NOTED = {
    "openai-agents 0.24": Reasons("timed out after 2s", "caller cancelled"),
    "fastmcp 4.1": Reasons("timed out after 2.0s", "caller cancelled"),
    "either TypeScript library with AbortSignal.timeout(), and abort(text)": Reasons(
        "TimeoutError: The operation was aborted due to timeout", "the user pressed stop"
    ),
}

"""The keys of config.toml that a server needs, and the types that they must have. Everything else is left alone."""

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from codexdb.config.files import ConfigFile, is_secret, with_overrides
from codexdb.config.mcp_server import MCP_STARTUP_TIMEOUT_S, MCP_TIMEOUT_S_MAX, MCP_TOOL_TIMEOUT_S
from codexdb.config.provider import WireApi
from codexdb.domain.approval import Fallback
from codexdb.domain.errors import InvalidConfigError
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.limits import SHELL_TIMEOUT_MS, SHELL_TIMEOUT_MS_MAX
from codexdb.domain.session import ApprovalPolicy, SandboxMode
from codexdb.domain.validation import Path, dotted, explain, first_problem

FALLBACK_NAMES_MAX = 32  # file names looked for in each directory of a project; people know two or three
PROJECT_DOC_BYTES = 32 * 1024  # of all project files together unless the file says otherwise; the original's default


class Inherit(StrEnum):
    """Which variables of the server a command gets."""

    ALL = "all"
    CORE = "core"
    NONE = "none"


class SandboxBackend(StrEnum):
    """What may hold commands to their sandbox mode. AUTO: the best that works."""

    AUTO = "auto"
    BWRAP = "bwrap"
    LANDLOCK = "landlock"
    NONE = "none"


class Effort(StrEnum):
    """How much a model thinks. Newer files hold values that the original did not know."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"


class Summary(StrEnum):
    """How a model tells what it thought."""

    AUTO = "auto"
    CONCISE = "concise"
    DETAILED = "detailed"
    NONE = "none"


class Verbosity(StrEnum):
    """How much a model says."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def _file_name(text: str) -> str:
    if text in {"", ".", ".."} or "/" in text or "\0" in text:
        raise ValueError("invalid value, expected the name of a file, without a directory")
    return text


# An enum of a strict model would refuse the texts of a TOML file.
_Approval = Annotated[ApprovalPolicy, Field(strict=False)]
_Sandbox = Annotated[SandboxMode, Field(strict=False)]
_Backend = Annotated[SandboxBackend, Field(strict=False)]
_Effort = Annotated[Effort, Field(strict=False)]
_Summary = Annotated[Summary, Field(strict=False)]
_Verbosity = Annotated[Verbosity, Field(strict=False)]
_Inherit = Annotated[Inherit, Field(strict=False)]
_Wire = Annotated[WireApi, Field(strict=False)]
_Fallback = Annotated[Fallback, Field(strict=False)]
_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, le=MCP_TIMEOUT_S_MAX)]
_FileName = Annotated[str, AfterValidator(_file_name)]


class _Table(BaseModel):
    """Keeps unknown keys, so that they can be named in the log."""

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),  # Codex's own keys begin with `model_`
    )


class ProviderTable(_Table):
    """`[model_providers.<id>]`"""

    name: str
    base_url: str | None = Field(None, repr=False)
    wire_api: _Wire = WireApi.CHAT
    env_key: str | None = None
    env_key_instructions: str | None = None
    experimental_bearer_token: str | None = Field(None, repr=False)
    requires_openai_auth: bool = False
    query_params: dict[str, str] = Field({}, repr=False)
    http_headers: dict[str, str] = Field({}, repr=False)
    env_http_headers: dict[str, str] = {}
    request_max_retries: _Count = 4
    stream_max_retries: _Count = 5
    stream_idle_timeout_ms: _Count = 300_000


class Profile(_Table):
    """`[profiles.<name>]`, and the keys that such a table shares with the top level."""

    model: str | None = None
    model_provider: str | None = None
    approval_policy: _Approval | None = None
    sandbox_mode: _Sandbox | None = None
    model_reasoning_effort: _Effort | None = None
    model_reasoning_summary: _Summary | None = None
    model_verbosity: _Verbosity | None = None
    experimental_instructions_file: str | None = None
    disable_response_storage: bool | None = None  # nothing is ever stored at the endpoint, whatever it says
    chatgpt_base_url: str | None = Field(default=None, repr=False)  # of a way to log in that we do not have


class WorkspaceWriteTable(_Table):
    """`[sandbox_workspace_write]`"""

    writable_roots: list[str] = []
    network_access: bool = False
    exclude_tmpdir_env_var: bool = False
    exclude_slash_tmp: bool = False


class EnvironmentTable(_Table):
    """`[shell_environment_policy]`"""

    inherit: _Inherit = Inherit.ALL
    ignore_default_excludes: bool = False
    exclude: list[str] = []
    assign: dict[str, str] = Field(default={}, alias="set", repr=False)
    include_only: list[str] = []


class McpServerTable(_Table):
    """`[mcp_servers.<name>]`"""

    command: str | None = None
    args: list[str] = Field([], repr=False)
    env: dict[str, str] = Field({}, repr=False)
    cwd: str | None = None
    url: str | None = Field(None, repr=False)
    startup_timeout_sec: _Seconds = MCP_STARTUP_TIMEOUT_S
    tool_timeout_sec: _Seconds = MCP_TOOL_TIMEOUT_S
    enabled: bool = True
    enabled_tools: list[str] | None = None
    disabled_tools: list[str] = []


class BudgetTable(_Table):
    """`[turn_budget]`, ours: what one turn may cost."""

    requests: _Positive | None = None
    tokens: _Positive | None = None
    seconds: _Positive | None = None


class Config(Profile):
    """A whole configuration: config.toml with overrides written into it."""

    profile: str | None = None
    profiles: dict[str, Profile] = {}
    model_providers: dict[str, ProviderTable] = {}
    sandbox_workspace_write: WorkspaceWriteTable = WorkspaceWriteTable()
    sandbox_backend: _Backend = SandboxBackend.AUTO
    shell_environment_policy: EnvironmentTable = EnvironmentTable()
    model_supports_reasoning_summaries: bool = False
    model_context_window: _Count | None = None
    model_max_output_tokens: _Positive | None = None
    model_auto_compact_token_limit: _Count | None = None
    tool_output_token_limit: _Count | None = None
    hide_agent_reasoning: bool = False
    show_raw_agent_reasoning: bool = False
    compact_prompt: str | None = None
    project_doc_max_bytes: _Count = PROJECT_DOC_BYTES
    project_doc_fallback_filenames: list[_FileName] = Field([], max_length=FALLBACK_NAMES_MAX)
    notify: list[str] = Field([], repr=False)
    shell_timeout_ms: Annotated[int, Field(ge=1, le=SHELL_TIMEOUT_MS_MAX)] = SHELL_TIMEOUT_MS
    turn_budget: BudgetTable = BudgetTable()
    approval_fallback: _Fallback = Fallback.DENY
    mcp_servers: dict[str, McpServerTable] = {}


_IGNORED = frozenset(
    {
        "agents",
        "experimental_resume",
        "experimental_use_profile",
        "features",
        "file_opener",
        "history",
        "hooks",
        "preferred_auth_method",
        "projects",
        "tui",
        "web_search",
    }
)
"""Keys of Codex that mean nothing to a server, or nothing yet: no reason for a warning."""


@lru_cache(maxsize=64)
def load(file: ConfigFile, overrides: str) -> Config:
    """The typed configuration; `overrides` as the JSON text of their object, so that it can be cached.

    Raises:
        InvalidConfigError: a value has the wrong type. The text names the key, and the file where no override wrote it.
    """
    written = decode_object(overrides)
    try:
        return Config.model_validate(with_overrides(file.tree, written))
    except ValidationError as error:
        # Pydantic's error carries the values, and some of them are secret: it must not reach a log as a cause.
        raise InvalidConfigError(_refusal(error, file, written)) from None


def _refusal(error: ValidationError, file: ConfigFile, overrides: JsonObject) -> str:
    problem = first_problem(error)
    path: Path = problem["loc"][:-1] if problem["type"] == "missing" else problem["loc"]
    names = tuple(part for part in problem["loc"] if isinstance(part, str))
    text = explain(error, quote=not is_secret(names, problem["input"]))
    origin = "" if any(_touches(key.split("."), names) for key in overrides) else f" of {file.path}"
    return f"{text}\nin `{dotted(path)}`{origin}\n"


def _touches(key: list[str], path: tuple[str, ...]) -> bool:
    shared = min(len(key), len(path))
    return tuple(key[:shared]) == path[:shared]


def unknown_keys(config: Config) -> tuple[str, ...]:
    """Dotted paths of keys that nobody knows: misspelt, or newer than this program."""
    return tuple(_unknown(config, ()))


def _unknown(table: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    for name in table.model_extra or {}:
        if name not in _IGNORED:
            yield dotted((*path, name))
    for name, value in table:
        if isinstance(value, _Table):
            yield from _unknown(value, (*path, name))
        elif isinstance(value, dict) and name in {"profiles", "model_providers", "mcp_servers"}:
            for key, inner in cast("dict[str, _Table]", value).items():
                yield from _unknown(inner, (*path, name, key))

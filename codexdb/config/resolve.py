"""From what a caller asks to what a session gets: the order of the layers, and the part of it that is stored.

Lowest to highest: built-in defaults, config.toml, the server's own overrides, the caller's `config` overrides, the
profile, typed arguments. So a profile beats an override of the same key; to beat it, override `profiles.<name>.<key>`.
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from codexdb.config.budget import TurnBudget
from codexdb.config.files import effective, read_config, read_text, separate
from codexdb.config.mcp_server import McpServer
from codexdb.config.models import context_window
from codexdb.config.project_docs import user_instructions
from codexdb.config.provider import Provider
from codexdb.config.providers import find_provider
from codexdb.config.schema import (
    Config,
    Effort,
    EnvironmentTable,
    Inherit,
    McpServerTable,
    Profile,
    SandboxBackend,
    Summary,
    load,
    unknown_keys,
)
from codexdb.domain.approval import Fallback
from codexdb.domain.errors import CredentialsMissingError, InvalidConfigError
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.domain.validation import unknown_variant

INSTRUCTIONS_BYTES_MAX = 1024 * 1024  # of `experimental_instructions_file`; no model reads more before it starts

_DEFAULT_MODEL = "gpt-5"
_REASONING_MODEL = re.compile(r"o\d|codex|gpt-5")
_CORE_VARIABLES = frozenset({"HOME", "LOGNAME", "PATH", "SHELL", "USER", "USERNAME", "TMPDIR", "TEMP", "TMP"})
_DEFAULT_EXCLUDES = ("*KEY*", "*SECRET*", "*TOKEN*")

_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller may ask of a new session. None: not given."""

    model: str | None = None
    profile: str | None = None
    cwd: str | None = None
    approval_policy: str | None = None
    sandbox: str | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None
    include_plan_tool: bool | None = None
    config: JsonObject = field(default_factory=dict[str, object], repr=False)  # dotted overrides; may hold secrets


@dataclass(frozen=True, slots=True)
class EnvironmentPolicy:
    """Which environment variables a command gets. Patterns know `*` and `?`, and no case."""

    inherit: Inherit = Inherit.ALL
    ignore_default_excludes: bool = False
    exclude: tuple[str, ...] = ()
    assign: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    include_only: tuple[str, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a command, given the server's own. Unless told otherwise, it holds no keys."""
        match self.inherit:
            case Inherit.ALL:
                found = dict(base)
            case Inherit.CORE:
                found = {name: value for name, value in base.items() if name in _CORE_VARIABLES}
            case Inherit.NONE:
                found = {}
        excluded = (*(() if self.ignore_default_excludes else _DEFAULT_EXCLUDES), *self.exclude)
        found = {name: value for name, value in found.items() if not _matches(name, excluded)}
        found.update(self.assign)
        if self.include_only:
            found = {name: value for name, value in found.items() if _matches(name, self.include_only)}
        return found


@dataclass(frozen=True, slots=True)
class WorkspaceWrite:
    """What `workspace-write` lets commands write besides the working directory. Other modes have no use for it."""

    writable_roots: tuple[str, ...] = ()  # absolute if the session's cwd is
    exclude_tmpdir_env_var: bool = False
    exclude_slash_tmp: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """Everything that a turn needs to know. `settings` is stored with the session; the rest never enters a row."""

    settings: SessionSettings
    provider: Provider
    reasoning: JsonObject | None  # {"effort", "summary"}; None for models that do not reason
    environment: EnvironmentPolicy
    workspace: WorkspaceWrite
    sandbox_backend: SandboxBackend  # what is asked for; whether it works here is found out when it is needed
    verbosity: str | None  # "low", "medium" or "high"; None: the endpoint's own
    context_window: int | None  # tokens; None: not configured, and the model is not known
    max_output_tokens: int | None  # of one answer; None: the endpoint's own
    auto_compact_token_limit: int | None
    tool_output_token_limit: int | None
    hide_agent_reasoning: bool
    show_raw_agent_reasoning: bool
    shell_timeout_ms: int  # of a command for which the model asks no other
    budget: TurnBudget
    approval_fallback: Fallback  # what becomes of a question that nobody can be asked
    notify: tuple[str, ...] = field(repr=False)  # what to run after a turn, with one more argument; empty: nothing
    mcp_servers: tuple[McpServer, ...]  # those that are enabled, by name
    user_instructions: str | None = field(repr=False)  # of AGENTS.md files; always None for a session that is reopened
    unknown_keys: tuple[str, ...]  # dotted; for one line in the log
    secrets: JsonObject = field(repr=False)  # the overrides that `settings.withheld` names


def resolve(
    request: Request,
    *,
    home: Path,
    environ: Mapping[str, str],
    server_cwd: Path,
    base_overrides: JsonObject | None = None,
) -> Resolved:
    """Settle the settings of a new session.

    `base_overrides` are those of the server's command line, weaker than the caller's. `cwd` need not exist.
    Reads config.toml if it changed, `experimental_instructions_file` if there is one, and AGENTS.md files; blocks
    meanwhile.

    Raises:
        InvalidConfigError: with the original's detail text, to which the caller puts its own prefix.
    """
    overrides = effective(base_overrides or {}, request.config)
    stored, secrets = separate(overrides)
    config = load(read_config(home), _cache_key(overrides))
    name = request.profile if request.profile is not None else config.profile
    profile = Profile() if name is None else config.profiles.get(name)
    if profile is None:
        raise InvalidConfigError(f"config profile `{name}` not found")
    # Looked up first, because the original complains of a provider before it complains of anything below.
    model_provider = _first(profile.model_provider, config.model_provider, default="openai")
    find_provider(model_provider, config, environ)
    cwd = _absolute(request.cwd, server_cwd)
    file_instructions = _instructions(profile, config, cwd)
    sandbox = _first(
        _choice(SandboxMode, request.sandbox), profile.sandbox_mode, config.sandbox_mode, default=SandboxMode.READ_ONLY
    )
    settings = SessionSettings(
        model=_first(request.model, profile.model, config.model, default=_DEFAULT_MODEL),
        model_provider=model_provider,
        cwd=cwd,
        approval_policy=_first(
            _choice(ApprovalPolicy, request.approval_policy),
            profile.approval_policy,
            config.approval_policy,
            default=ApprovalPolicy.UNTRUSTED,
        ),
        sandbox_mode=sandbox,
        network_access=_network_access(sandbox, config),
        include_plan_tool=bool(request.include_plan_tool),
        profile=name,
        base_instructions=request.base_instructions if request.base_instructions is not None else file_instructions,
        developer_instructions=request.developer_instructions,
        compact_prompt=request.compact_prompt if request.compact_prompt is not None else config.compact_prompt,
        overrides=stored,
        withheld=tuple(secrets),
    )
    resolved = _complete(settings, secrets, config, environ)
    return replace(resolved, user_instructions=_user_instructions(config, home, settings.cwd))


def reopen(
    settings: SessionSettings, secrets: JsonObject | None, *, home: Path, environ: Mapping[str, str]
) -> Resolved:
    """The same for a session read back from its row: `settings` stays as it is, the rest follows today's config.toml.

    A profile that has gone meanwhile is no error: what it settled is in `settings`. Blocks like `resolve`, but for the
    instructions file. What AGENTS.md files said stands in the session's items already, so they are not read.

    Raises:
        CredentialsMissingError: `secrets` lacks an override that `settings.withheld` names.
        InvalidConfigError: config.toml cannot be used, or no longer has the provider.
    """
    given = secrets or {}
    missing = [key for key in settings.withheld if key not in given]
    if missing:
        names = ", ".join(f"`{key}`" for key in missing)
        raise CredentialsMissingError(
            f"the session was started with the secret override {names}, which is kept in memory only and is unknown to "
            "this process; start a new session with it, or put it into config.toml"
        )
    needed = {key: given[key] for key in settings.withheld}
    config = load(read_config(home), _cache_key({**settings.overrides, **needed}))
    return _complete(settings, needed, config, environ)


def _complete(settings: SessionSettings, secrets: JsonObject, config: Config, environ: Mapping[str, str]) -> Resolved:
    profile = (config.profiles.get(settings.profile) if settings.profile is not None else None) or Profile()
    budget = config.turn_budget
    known = context_window(settings.model)
    verbosity = profile.model_verbosity or config.model_verbosity
    return Resolved(
        settings=settings,
        provider=find_provider(settings.model_provider, config, environ),
        reasoning=_reasoning(settings.model, profile, config),
        environment=_environment_policy(config.shell_environment_policy),
        workspace=_workspace(config, settings.cwd),
        sandbox_backend=config.sandbox_backend,
        verbosity=None if verbosity is None else verbosity.value,
        context_window=known if config.model_context_window is None else config.model_context_window,
        max_output_tokens=config.model_max_output_tokens,
        auto_compact_token_limit=config.model_auto_compact_token_limit,
        tool_output_token_limit=config.tool_output_token_limit,
        hide_agent_reasoning=config.hide_agent_reasoning,
        show_raw_agent_reasoning=config.show_raw_agent_reasoning,
        shell_timeout_ms=config.shell_timeout_ms,
        budget=TurnBudget(budget.requests, budget.tokens, budget.seconds),
        approval_fallback=config.approval_fallback,
        notify=tuple(config.notify),
        mcp_servers=tuple(
            _mcp_server(name, table) for name, table in sorted(config.mcp_servers.items()) if table.enabled
        ),
        user_instructions=None,
        unknown_keys=unknown_keys(config),
        secrets=secrets,
    )


def _cache_key(overrides: JsonObject) -> str:
    """The same text for the same overrides, whatever order a row kept them in."""
    return encode(dict(sorted(overrides.items())))


def _first(*values: _Value | None, default: _Value) -> _Value:
    return next((value for value in values if value is not None), default)


def _choice(choices: type[_Choice], value: str | None) -> _Choice | None:
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        raise InvalidConfigError(unknown_variant(value, list(choices))) from None


def _absolute(cwd: str | None, server_cwd: Path) -> str:
    """The original joins and does not normalise: `.` becomes `/server/cwd/.`"""
    if not cwd:
        return str(server_cwd)
    return cwd if cwd.startswith("/") else f"{str(server_cwd).rstrip('/')}/{cwd}"


def _instructions(profile: Profile, config: Config, cwd: str) -> str | None:
    """The instructions file's text. A file that is named must be good, also where an argument replaces its text."""
    name = profile.experimental_instructions_file or config.experimental_instructions_file
    if not name:
        return None
    path = Path(cwd) / name
    try:
        text = read_text(path, INSTRUCTIONS_BYTES_MAX).strip()
    except OSError as error:
        reason = f"{error.strerror} (os error {error.errno})"
        raise InvalidConfigError(f"failed to read experimental instructions file {path}: {reason}") from error
    except ValueError as error:
        raise InvalidConfigError(f"failed to read experimental instructions file {path}: {error}") from error
    if not text:
        raise InvalidConfigError(f"experimental instructions file is empty: {path}")
    return text


def _user_instructions(config: Config, home: Path, cwd: str) -> str | None:
    names = tuple(config.project_doc_fallback_filenames)
    return user_instructions(home, cwd, names, bytes_max=config.project_doc_max_bytes)


def _network_access(sandbox: SandboxMode, config: Config) -> bool:
    match sandbox:
        case SandboxMode.READ_ONLY:
            return False
        case SandboxMode.WORKSPACE_WRITE:
            return config.sandbox_workspace_write.network_access
        case SandboxMode.DANGER_FULL_ACCESS:
            return True


def _reasoning(model: str, profile: Profile, config: Config) -> JsonObject | None:
    if not (config.model_supports_reasoning_summaries or _REASONING_MODEL.match(model)):
        return None
    effort = profile.model_reasoning_effort or config.model_reasoning_effort or Effort.MEDIUM
    summary = profile.model_reasoning_summary or config.model_reasoning_summary or Summary.AUTO
    if effort is Effort.NONE:
        return None
    if summary is Summary.NONE:
        return {"effort": effort.value}
    return {"effort": effort.value, "summary": summary.value}


def _environment_policy(table: EnvironmentTable) -> EnvironmentPolicy:
    return EnvironmentPolicy(
        inherit=table.inherit,
        ignore_default_excludes=table.ignore_default_excludes,
        exclude=tuple(table.exclude),
        assign=table.assign,
        include_only=tuple(table.include_only),
    )


def _workspace(config: Config, cwd: str) -> WorkspaceWrite:
    table = config.sandbox_workspace_write
    return WorkspaceWrite(
        writable_roots=tuple(str(Path(cwd) / root) for root in table.writable_roots),
        exclude_tmpdir_env_var=table.exclude_tmpdir_env_var,
        exclude_slash_tmp=table.exclude_slash_tmp,
    )


def _mcp_server(name: str, table: McpServerTable) -> McpServer:
    return McpServer(
        name=name,
        command=table.command,
        args=tuple(table.args),
        env=table.env,
        cwd=table.cwd,
        url=table.url,
        startup_timeout_s=table.startup_timeout_sec,
        tool_timeout_s=table.tool_timeout_sec,
        enabled_tools=None if table.enabled_tools is None else frozenset(table.enabled_tools),
        disabled_tools=frozenset(table.disabled_tools),
    )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(_pattern(pattern).fullmatch(name) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob.replace("[", "[[]")), re.IGNORECASE)

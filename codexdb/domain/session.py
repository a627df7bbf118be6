"""A session's settings as they are stored: resolved, and without secrets."""

from dataclasses import dataclass, field
from enum import StrEnum

from codexdb.domain.json import JsonObject


class ApprovalPolicy(StrEnum):
    """When a person is asked before a command runs."""

    UNTRUSTED = "untrusted"
    ON_FAILURE = "on-failure"
    ON_REQUEST = "on-request"
    NEVER = "never"


class SandboxMode(StrEnum):
    """What commands may touch; the strictest first."""

    READ_ONLY = "read-only"
    WORKSPACE_WRITE = "workspace-write"
    DANGER_FULL_ACCESS = "danger-full-access"

    def stricter_than(self, other: "SandboxMode") -> bool:
        order = tuple(SandboxMode)
        return order.index(self) < order.index(other)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session was started with. The provider itself is looked up again in config.toml for every turn, so that
    its address and keys follow that file and never enter a row.
    """

    model: str
    model_provider: str
    cwd: str  # absolute
    approval_policy: ApprovalPolicy
    sandbox_mode: SandboxMode
    network_access: bool = False
    include_plan_tool: bool = False
    profile: str | None = None
    base_instructions: str | None = None  # None: our own text
    developer_instructions: str | None = None
    compact_prompt: str | None = None
    overrides: JsonObject = field(
        default_factory=dict[str, object]
    )  # dotted `config` overrides, secret-valued ones removed
    withheld: tuple[str, ...] = ()  # keys of the secret-valued ones; the process that was given them keeps their values

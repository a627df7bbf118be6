"""MCP servers that the user configured: programs whose tools the model may call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MCP_STARTUP_TIMEOUT_S = 10.0  # from the start of a server to its list of tools, unless the file says otherwise
MCP_TOOL_TIMEOUT_S = 60.0  # of one call, unless the file says otherwise; clients give up at about that time
MCP_TIMEOUT_S_MAX = 3_600.0  # of either; nobody waits longer for one call


@dataclass(frozen=True, slots=True)
class McpServer:
    """One `[mcp_servers.<name>]` table. May hold secrets: never stored, never logged, not in its repr."""

    name: str
    command: str | None = None  # searched in PATH; None: there is none, and the server cannot be used
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)  # added to the little that it inherits
    cwd: str | None = None  # relative to the session's directory, which is the default
    url: str | None = field(default=None, repr=False)  # of a server that is reached over HTTP
    startup_timeout_s: float = MCP_STARTUP_TIMEOUT_S
    tool_timeout_s: float = MCP_TOOL_TIMEOUT_S
    enabled_tools: frozenset[str] | None = None  # None: all of them
    disabled_tools: frozenset[str] = frozenset()

    def offers(self, tool: str) -> bool:
        """Whether the user lets the model have this tool of the server."""
        return (self.enabled_tools is None or tool in self.enabled_tools) and tool not in self.disabled_tools

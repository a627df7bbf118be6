"""The command line of `serve`, read by hand: this runs before `initialize` is answered, where click is too slow.

`codexdb mcp-server` is `codexdb serve`. The options of Codex are accepted before and after the word, because plugins
write `codex -m MODEL mcp-server`.
"""

COMMANDS = frozenset({"serve", "mcp-server"})

# Option → (name of its value, what it may be; None for anything).
OPTIONS: "dict[str, tuple[str, tuple[str, ...] | None]]" = {
    "--db": ("db", None),
    "--on-cancel": ("on_cancel", ("auto", "interrupt", "detach")),
    "--on-eof": ("on_eof", ("stop", "finish")),
    "--on-restart": ("on_restart", ("resume", "interrupt")),
    "--resume-max-age": ("resume_max_age", None),
    "-m": ("model", None),
    "--model": ("model", None),
    "-p": ("profile", None),
    "--profile": ("profile", None),
    "-s": ("sandbox_mode", None),
    "--sandbox": ("sandbox_mode", None),
    "-a": ("approval_policy", None),
    "--ask-for-approval": ("approval_policy", None),
    "-c": ("config", None),
    "--config": ("config", None),
}


class ServeOptions:
    """What `serve` was started with. `config`: the `key=value` texts of -c, in their order."""

    __slots__ = ("config", "no_worker", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.config: list[str] = []
        self.no_worker = False


def parse(argv: list[str]) -> ServeOptions | None:
    """The options, or None where this is not plainly `serve`: another command, a request for help, a mistake."""
    options = ServeOptions()
    seen_command = False
    rest = iter(argv)
    for word in rest:
        if word in COMMANDS and not seen_command:
            seen_command = True
            continue
        if word == "--no-worker":
            options.no_worker = True
            continue
        name, equals, value = word.partition("=")
        if name not in OPTIONS:
            return None
        if not equals:
            value = next(rest, None)
        if value is None or not _take(options, name, value):
            return None
    return options if seen_command else None


def _take(options: ServeOptions, name: str, value: str) -> bool:
    key, allowed = OPTIONS[name]
    if allowed is not None and value not in allowed:
        return False
    if key == "resume_max_age" and not value.isdecimal():
        return False
    if key == "config":
        options.config.append(value)
        return "=" in value
    options.values[key] = value
    return True

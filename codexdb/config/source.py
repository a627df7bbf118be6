"""The configuration of one process: which home, which environment, which overrides it was started with."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from codexdb.config.files import ConfigFile, read_config, separate
from codexdb.config.override import override
from codexdb.config.resolve import Request, Resolved, reopen, resolve
from codexdb.domain.json import JsonObject
from codexdb.domain.session import SessionSettings

UNKNOWN_KEYS_NAMED_MAX = 20  # in one line of the log; whoever has more will find the pattern

_logger = logging.getLogger(__name__)
_DEFAULTED = ("model", "profile", "sandbox", "approval_policy")


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Resolves settings against today's config.toml."""

    home: Path
    server_cwd: Path
    overrides: JsonObject = field(default_factory=dict[str, object], repr=False)
    defaults: Request = field(default_factory=Request)  # what the process was started with, unless a caller says more
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def resolve(self, request: Request) -> Resolved:
        """Settings of a new session. Raises `InvalidConfigError`."""
        resolved = resolve(
            self._completed(request),
            home=self.home,
            environ=self.environ,
            server_cwd=self.server_cwd,
            base_overrides=self.overrides,
        )
        self._warn(resolved)
        return resolved

    def _completed(self, request: Request) -> Request:
        given = {name: getattr(self.defaults, name) for name in _DEFAULTED if getattr(request, name) is None}
        return replace(request, **given)

    def reopen(self, settings: SessionSettings, secrets: JsonObject | None) -> Resolved:
        """The same for a stored session. Raises `InvalidConfigError` or `CredentialsMissingError`."""
        started_with = separate(self.overrides)[1]  # a server that is started again with them has them again
        resolved = reopen(settings, {**started_with, **(secrets or {})}, home=self.home, environ=self.environ)
        self._warn(resolved)
        return resolved

    def override(
        self, settings: SessionSettings, secrets: JsonObject | None, request: Request
    ) -> tuple[JsonObject, JsonObject]:
        """What a message changes of its session's settings, and its secret overrides. Raises `InvalidConfigError`."""
        started_with = separate(self.overrides)[1]
        known = {key: value for key, value in {**started_with, **(secrets or {})}.items() if key in settings.withheld}
        return override(settings, known, request, home=self.home, environ=self.environ)

    def _warn(self, resolved: Resolved) -> None:
        if resolved.unknown_keys:
            _warn_once(read_config(self.home), resolved.unknown_keys)


@lru_cache(maxsize=64)
def _warn_once(file: ConfigFile, keys: tuple[str, ...]) -> None:
    """One line for these keys in this state of the file, as long as the cache remembers it."""
    named = ", ".join(f"`{_printable(key)}`" for key in keys[:UNKNOWN_KEYS_NAMED_MAX])
    more = f" and {len(keys) - UNKNOWN_KEYS_NAMED_MAX} more" if len(keys) > UNKNOWN_KEYS_NAMED_MAX else ""
    _logger.warning("nobody reads the keys %s%s of %s, or of an override", named, more, file.path)


def _printable(key: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in key)

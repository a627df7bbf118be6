"""The configuration of one process: which home, which environment, which overrides it was started with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from codexdb.config.files import separate
from codexdb.config.override import override
from codexdb.config.resolve import Request, Resolved, reopen, resolve
from codexdb.domain.json import JsonObject
from codexdb.domain.session import SessionSettings

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
        return resolve(
            self._completed(request),
            home=self.home,
            environ=self.environ,
            server_cwd=self.server_cwd,
            base_overrides=self.overrides,
        )

    def _completed(self, request: Request) -> Request:
        given = {name: getattr(self.defaults, name) for name in _DEFAULTED if getattr(request, name) is None}
        return replace(request, **given)

    def reopen(self, settings: SessionSettings, secrets: JsonObject | None) -> Resolved:
        """The same for a stored session. Raises `InvalidConfigError` or `CredentialsMissingError`."""
        started_with = separate(self.overrides)[1]  # a server that is started again with them has them again
        return reopen(settings, {**started_with, **(secrets or {})}, home=self.home, environ=self.environ)

    def override(
        self, settings: SessionSettings, secrets: JsonObject | None, request: Request
    ) -> tuple[JsonObject, Resolved]:
        """What a message changes of its session's settings. Raises `InvalidConfigError`."""
        started_with = separate(self.overrides)[1]
        known = {key: value for key, value in {**started_with, **(secrets or {})}.items() if key in settings.withheld}
        return override(settings, known, request, home=self.home, environ=self.environ)

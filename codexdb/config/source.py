"""The configuration of one process: which home, which environment, which overrides it was started with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codexdb.config.resolve import Request, Resolved, reopen, resolve
from codexdb.domain.json import JsonObject
from codexdb.domain.session import SessionSettings


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Resolves settings against today's config.toml."""

    home: Path
    server_cwd: Path
    overrides: JsonObject = field(default_factory=dict[str, object], repr=False)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def resolve(self, request: Request) -> Resolved:
        """Settings of a new session. Raises `InvalidConfigError`."""
        return resolve(
            request, home=self.home, environ=self.environ, server_cwd=self.server_cwd, base_overrides=self.overrides
        )

    def reopen(self, settings: SessionSettings, secrets: JsonObject | None) -> Resolved:
        """The same for a stored session. Raises `InvalidConfigError` or `CredentialsMissingError`."""
        return reopen(settings, secrets, home=self.home, environ=self.environ)

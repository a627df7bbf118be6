"""Settings that a message changes for its own turn and those after it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from codexdb.config.files import effective, separate
from codexdb.config.resolve import Request, resolve
from codexdb.domain.json import JsonObject
from codexdb.domain.session import SessionSettings


def override(
    settings: SessionSettings,
    secrets: JsonObject | None,
    request: Request,
    *,
    home: Path,
    environ: Mapping[str, str],
) -> tuple[JsonObject, JsonObject]:
    """What `request` changes of a session's settings (their names and new values), and its secret overrides.

    `overrides` and `withheld` are what the message adds to the session's: others may be added before its turn begins.

    An argument counts as it does for a new session. Of a profile and of `config`, only what they make different from
    what the session's own profile and overrides give today: what the session was started with stays otherwise.

    Raises:
        InvalidConfigError: as for a new session.
    """
    given = {**settings.overrides, **(secrets or {})}
    old = Request(profile=settings.profile, cwd=settings.cwd, config=given)
    new = Request(
        model=request.model,
        profile=request.profile if request.profile is not None else settings.profile,
        cwd=request.cwd if request.cwd is not None else settings.cwd,
        approval_policy=request.approval_policy,
        sandbox=request.sandbox,
        base_instructions=request.base_instructions,
        config=effective(given, request.config),
    )
    server_cwd = Path(settings.cwd)
    before = resolve(old, home=home, environ=environ, server_cwd=server_cwd).settings
    after = resolve(new, home=home, environ=environ, server_cwd=server_cwd).settings
    changed = {
        field.name: getattr(after, field.name)
        for field in fields(SessionSettings)
        if field.name not in ("overrides", "withheld") and getattr(after, field.name) != getattr(before, field.name)
    }
    changed |= {name: getattr(request, name) for name in ("model", "base_instructions") if getattr(request, name)}
    changed |= {name: getattr(after, name) for name in _asked(request)}
    if request.config:
        stored, secret = separate(effective(request.config))
        changed |= {"overrides": stored, "withheld": tuple(secret)}
        return changed, secret
    return changed, {}


def _asked(request: Request) -> list[str]:
    names = [name for name in ("cwd", "approval_policy") if getattr(request, name) is not None]
    return [*names, "sandbox_mode", "network_access"] if request.sandbox is not None else names

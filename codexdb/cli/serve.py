"""`codexdb serve`: everything that follows the handshake."""

import logging
import sys
import tomllib
from typing import cast

import anyio

from codexdb import app
from codexdb.cli.serve_options import ServeOptions
from codexdb.config.database import database_path
from codexdb.config.resolve import Request
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import RESUME_AGE_MS_MAX
from codexdb.protocol.context import OnCancel
from codexdb.protocol.handshake import Opening


def serve(options: ServeOptions, opening: Opening) -> int:
    """Serve until the client is gone; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="codexdb: %(levelname)s: %(message)s")
    return anyio.run(app.serve, application_options(options), opening)


def application_options(options: ServeOptions) -> app.Options:
    """The command line as the composition root takes it."""
    return app.Options(
        database=database_path(options.values.get("db")),
        overrides=_overrides(options),
        defaults=Request(
            model=options.values.get("model"),
            profile=options.values.get("profile"),
            sandbox=options.values.get("sandbox_mode"),
            approval_policy=options.values.get("approval_policy"),
        ),
        on_cancel=OnCancel(options.values.get("on_cancel", OnCancel.AUTO)),
        finish_on_eof=options.values.get("on_eof") == "finish",
        works=not options.no_worker,
        resume=options.values.get("on_restart") != "interrupt",
        resume_age_ms_max=int(options.values.get("resume_max_age", RESUME_AGE_MS_MAX // 1000)) * 1000,
    )


def _overrides(options: ServeOptions) -> JsonObject:
    """Codex's options as overrides of config.toml."""
    found: JsonObject = {}
    for text in options.config:
        key, _, value = text.partition("=")
        found[key.strip()] = _toml(value.strip())
    return found


def _toml(text: str) -> object:
    """A TOML value where it is one, else the text itself, so that `-c model=o3` needs no quotes."""
    try:
        return cast("JsonObject", tomllib.loads(f"value = {text}"))["value"]
    except tomllib.TOMLDecodeError:
        return text

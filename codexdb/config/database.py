"""Where the database is."""

import os
from collections.abc import Mapping
from pathlib import Path


def database_path(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """`--db`, else `CODEXDB_DB`, else `$CODEX_HOME/codexdb/codexdb.sqlite3` (home defaults to `~/.codex`). Absolute."""
    chosen = explicit or environ.get("CODEXDB_DB")
    if chosen:
        return Path(chosen).expanduser().resolve()  # locks lie beside the file, however it is named
    home = environ.get("CODEX_HOME")
    base = Path(home) if home else Path.home() / ".codex"
    return (base / "codexdb" / "codexdb.sqlite3").resolve()

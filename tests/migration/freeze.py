"""Record the hash of every migration that has none yet: `python -m tests.migration.freeze`.

A landed migration has run on somebody's database; whatever it should have done differently, a new one does.
"""

import hashlib
import json
from pathlib import Path
from typing import cast

from tests.migration.snapshot import ROOT

VERSIONS = ROOT / "migrations" / "versions"
FROZEN = Path(__file__).with_name("frozen.json")


def hashes() -> dict[str, str]:
    """File name → SHA-256, of what is there now."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(VERSIONS.glob("*.py"))}


def recorded() -> dict[str, str]:
    return cast("dict[str, str]", json.loads(FROZEN.read_text())) if FROZEN.exists() else {}


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(hashes() | recorded(), indent=2) + "\n")

"""What the model is told at the start of every request."""

from functools import cache
from pathlib import Path


@cache
def base_instructions() -> str:
    """Our own instructions; a session may replace them with its own."""
    return Path(__file__).with_name("base.md").read_text(encoding="utf-8").strip()

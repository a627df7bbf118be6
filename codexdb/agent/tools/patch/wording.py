"""The sentences a model reads about a patch. Models were trained on most of them, and clients compare them."""

import os
from collections.abc import Sequence

from codexdb.domain.limits import PATCH_QUOTED_CHARS_MAX

SUCCESS = "Success. Updated the following files:"
EMPTY = "patch rejected: empty patch"
REJECTED_BY_USER = "patch rejected by user"
OUTSIDE_PROJECT = "patch rejected: writing outside of the project; rejected by user approval settings"
CUT = "…"  # stands for what a message left out


def os_text(error: OSError) -> str:
    """As the original's runtime words it: "No such file or directory (os error 2)"."""
    if error.errno is None:
        return str(error)
    return f"{os.strerror(error.errno)} (os error {error.errno})"


def quoted_lines(lines: Sequence[str]) -> str:
    """`["a", "b"]`, escaped as the original's runtime does, and cut after `PATCH_QUOTED_CHARS_MAX` characters."""
    parts: list[str] = []
    left = PATCH_QUOTED_CHARS_MAX
    for line in lines:
        if len(line) > left:
            parts.append(f'"{_escaped(line[:left])}{CUT}"')
            break
        parts.append(f'"{_escaped(line)}"')
        left -= len(line) + 4  # quotes, comma, blank
        if left <= 0 and len(parts) < len(lines):
            parts.append(CUT)
            break
    return f"[{', '.join(parts)}]"


def shortened(text: str) -> str:
    """The text, cut after `PATCH_QUOTED_CHARS_MAX` characters."""
    return text if len(text) <= PATCH_QUOTED_CHARS_MAX else text[:PATCH_QUOTED_CHARS_MAX] + CUT


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _escaped(text: str) -> str:
    return "".join(
        _ESCAPES.get(char, char if char.isprintable() or char in _ESCAPES else f"\\u{{{ord(char):x}}}") for char in text
    )

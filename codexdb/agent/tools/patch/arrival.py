"""The ways in which a patch comes as a command, instead of as a call of its own tool."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = frozenset({"apply_patch", "applypatch"})
_SHELLS = frozenset({"bash", "sh", "zsh"})
_SHELL_OPTIONS = frozenset({"-c", "-lc"})
# One plain word: no expansion of any kind, and no option of `cd`.
_WORD = r"""(?:'(?P<single>[^'\n]+)'|"(?P<double>[^"$`\\\n]+)"|(?P<bare>[\w./@%+=:,][\w./@%+=:,-]*))"""
_SCRIPT = re.compile(
    rf"\s*(?:cd[ \t]+{_WORD}[ \t]*&&\s*)?(?:apply_patch|applypatch)[ \t]*<<[ \t]*"
    r"(?P<quote>['\"]?)(?P<tag>[\w.-]+)(?P=quote)[ \t]*\r?\n(?P<body>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A patch that came as a command. Its text is not checked."""

    patch: str
    workdir: str | None  # as given to `cd`; None: where the command would have run

    def directory(self, cwd: str) -> str:
        """Where the patch applies, if the command would have run in `cwd`."""
        return cwd if self.workdir is None else os.path.join(cwd, self.workdir)  # shown as given


def recognise(argv: Sequence[str]) -> Arrival | None:
    """The patch that this command applies, or None where it is, or also does, anything else.

    The text of a here-document is taken as it stands, also where a shell would expand it.
    """
    match tuple(argv):
        case (name, patch) if name in NAMES:
            return Arrival(patch, None)
        case (shell, option, script) if option in _SHELL_OPTIONS and _is_shell(shell):
            return _script(script)
        case _:
            return None


def _script(script: str) -> Arrival | None:
    found = _SCRIPT.fullmatch(script)
    if found is None:
        return None
    lines = found["body"].split("\n")
    tag = found["tag"]
    for number, line in enumerate(lines):
        if line.removesuffix("\r") == tag:
            if "".join(lines[number + 1 :]).strip():
                return None  # something follows the here-document
            workdir = found["single"] or found["double"] or found["bare"]
            if workdir is not None and workdir.startswith("-"):
                return None  # an option of `cd`
            return Arrival("\n".join(lines[:number]), workdir)
    return None


def _is_shell(program: str) -> bool:
    return program in _SHELLS or (program.startswith("/") and program.rpartition("/")[2] in _SHELLS)

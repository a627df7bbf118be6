"""Tells a refusal of the sandbox from a command's own failure, as far as the outcome shows it."""

import re
import signal as signals

_WORDS = re.compile(
    r"permission denied|read-only file system|operation not permitted|network is unreachable", re.IGNORECASE
)
_CODES = frozenset({126, 128 + 31})  # not allowed to execute; ended by SIGSYS (31 on both machines), as shells say it


def looks_denied(exit_code: int | None, signal: int | None, output: str) -> bool:
    """Whether a command that ran in a sandbox probably failed because of it.

    `exit_code` and `signal` as in `process.Ending`; `output` is what it printed on both streams. Never true of a
    command that succeeded. A guess: a command may print such words for reasons of its own, or fail in silence.
    """
    if signal is not None:
        return signal == signals.SIGSYS
    if exit_code in (None, 0):
        return False
    return exit_code in _CODES or _WORDS.search(output) is not None

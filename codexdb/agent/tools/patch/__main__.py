"""Applies the patch on stdin in the working directory, as a program that sees the standard library only.

Prints the success text and exits with 0, or prints on stderr why nothing was changed and exits with 1.
"""

import os
import signal
import sys

from codexdb.agent.tools.patch import grammar, leftovers
from codexdb.agent.tools.patch.apply import Failed, apply
from codexdb.agent.tools.patch.verify import folders, verify
from codexdb.domain.limits import PATCH_BYTES_MAX


def run(text: str, cwd: str, run_name: str | None = None) -> tuple[bool, str]:
    """Apply a patch in `cwd`; whether it is applied, and what the model is told."""
    sections = grammar.parse(text)
    if isinstance(sections, str):
        return False, f"error: {sections}"
    plan = verify(sections, cwd)
    if isinstance(plan, str):
        leftovers.sweep(folders(sections, cwd))
        return False, plan
    outcome = apply(plan, run_name=run_name)
    return not isinstance(outcome, Failed), outcome.text


def _stop(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # what is undone now is not to be interrupted again
    sys.exit(128 + number)


def main(run_name: str | None = None) -> int:
    """The program, as the run of that name. SIGTERM and SIGINT undo what was begun."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    given = sys.stdin.buffer.read(PATCH_BYTES_MAX + 1)
    try:
        done, text = run(given.decode(), os.getcwd(), run_name)
    except UnicodeDecodeError:
        done, text = False, "error: invalid patch: The patch must be valid Unicode text"
    stream = sys.stdout if done else sys.stderr
    stream.buffer.write(text.encode(errors="replace") if text.endswith("\n") else f"{text}\n".encode(errors="replace"))
    stream.flush()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())

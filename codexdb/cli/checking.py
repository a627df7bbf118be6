"""`codexdb db check`: what is sound, what is not, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from codexdb.cli import screen
from codexdb.domain.errors import CodexDBError
from codexdb.domain.json import encode
from codexdb.store.check import Finding, check


def run(path: Path, *, quick: bool, as_json: bool) -> int:
    """Print a line for each look; returns 1 where something is wrong."""
    try:
        with screen.progress("check") as progress:
            findings = list(check(path, progress, quick=quick))
    except CodexDBError as error:
        raise click.ClickException(error.message) from error
    wrong = sum(finding.count > 0 for finding in findings)
    if as_json:
        screen.write("".join(f"{encode({**asdict(each), 'ok': not each.count})}\n" for each in findings))
    else:
        screen.write("".join(map(_text, findings)))
        screen.write("All is well.\n" if not wrong else f"Something is wrong in {wrong} of these.\n")
    return int(wrong > 0)


def _text(finding: Finding) -> str:
    if not finding.count:
        return f"ok     {finding.check}\n"
    return "".join(f"{line}\n" for line in _wrong(finding))


def _wrong(finding: Finding) -> Iterator[str]:
    yield f"wrong  {finding.check}: {finding.count:,} found. What must hold: {finding.holds}"
    for row in finding.rows:
        told = ", ".join(f"{name} {screen.cell(value) or 'NULL'}" for name, value in row.items())
        yield f"         {screen.harmless(told)}"
    if finding.count > len(finding.rows):
        yield f"         … and {finding.count - len(finding.rows):,} more"
    yield f"         {finding.advice}"

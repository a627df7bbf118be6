"""Cases of patches: files before, a patch, files after or what the model is told."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codexdb.agent.tools.patch.__main__ import run

Files = Mapping[str, str | bytes]
BEGIN, END = "*** Begin Patch", "*** End Patch"


def patch(*lines: str) -> str:
    """Those lines between the markers."""
    return "\n".join([BEGIN, *lines, END]) + "\n"


@dataclass(frozen=True)
class Case:
    """`after` is the whole folder, or the text of a failure that changes nothing. `{cwd}` in it is the folder."""

    name: str
    before: Files
    patch: str
    after: Files | str
    said: str | None = None  # the success text below its first line, where it matters
    modes: Mapping[str, int] = field(default_factory=dict[str, int])  # of files before


def lay_out(folder: Path, files: Files, modes: Mapping[str, int] | None = None) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    for name, mode in (modes or {}).items():
        (folder / name).chmod(mode)


def as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below the folder, by relative name: nothing temporary is left out."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def check(case: Case, folder: Path) -> None:
    lay_out(folder, case.before, case.modes)
    before = files_in(folder)
    done, text = run(case.patch, str(folder))
    if isinstance(case.after, str):
        assert text == case.after.replace("{cwd}", str(folder))
        assert not done
        assert files_in(folder) == before
        return
    assert done, text
    assert files_in(folder) == {name: as_bytes(content) for name, content in case.after.items()}
    head, _, said = text.partition("\n")
    assert head == "Success. Updated the following files:"
    if case.said is not None:
        assert said == case.said


def ids(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


def applied(old: str, hunks: str) -> str:
    """The text after the hunks, by a reader that knows nothing of how they were made."""
    source = [f"{line}\n" for line in old.split("\n")]
    source[-1] = source[-1].removesuffix("\n")
    lines = hunks.split("\n")
    result: list[str] = []
    at = 0
    for number, line in enumerate(lines[:-1]):
        sign, text = line[0], line[1:] + ("" if lines[number + 1].startswith("\\") else "\n")
        if sign == "@":
            begin, _, count = line.split(" ")[1].removeprefix("-").partition(",")
            begin_at = int(begin) - (count != "0")
            result += source[at:begin_at]
            at = begin_at
        elif sign in (" ", "-"):
            assert source[at] == text
            at += 1
        if sign in (" ", "+"):
            result.append(text)
    return "".join(result + source[at:])

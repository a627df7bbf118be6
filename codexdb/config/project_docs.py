"""What people wrote down for agents: AGENTS.md of the home, and the files of that kind of a project.

Files that cannot be used are passed over: a session must not fail because of a note that somebody left in a directory.
"""

import codecs
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codexdb.domain.foreign_file import open_regular

HOME_DOC_BYTES_MAX = 1024 * 1024  # of AGENTS.md in CODEX_HOME; no model reads more before it starts
PROJECT_DOCS_BYTES_MAX = 1024 * 1024  # of a project's files together, whatever `project_doc_max_bytes` says
PROJECT_DEPTH_MAX = 128  # directories from the working directory up to its git root; no project is deeper

_NAMES = ("AGENTS.override.md", "AGENTS.md")
_SEPARATOR = "\n\n--- project-doc ---\n\n"
_LOOK_AHEAD_BYTES = 1024  # read beyond the bound, to tell a file that goes on from one that ends in blank lines


@dataclass(frozen=True, slots=True)
class _Doc:
    """As much of a file as may be told. `cut`: there is more of it."""

    text: str
    size: int  # bytes of the file that were used
    cut: bool


def user_instructions(home: Path, cwd: str, fallback_names: Iterable[str] = (), *, bytes_max: int) -> str | None:
    """What a session that works in `cwd` is told: AGENTS.md of `home`, then the files of its project.

    A project's files are those of its git root and of every directory from there down to `cwd`, in this order; of `cwd`
    alone where there is no git root. In each directory the first of AGENTS.override.md, AGENTS.md and `fallback_names`
    counts that is a regular file, can be read and is not blank. They share `bytes_max`, 0 leaves them out. Bytes that
    are not UTF-8 are replaced. None: nobody wrote anything.

    Blocks for as long as small local files take, and raises nothing.
    """
    own = _read(home / "AGENTS.md", HOME_DOC_BYTES_MAX)
    parts = [] if own is None else [_told([own], HOME_DOC_BYTES_MAX)]
    bytes_max = min(bytes_max, PROJECT_DOCS_BYTES_MAX)
    if docs := _project(_directories(home, cwd), (*_NAMES, *fallback_names), bytes_max):
        parts.append(_told(docs, bytes_max))
    return _SEPARATOR.join(parts) or None


def _told(docs: list[_Doc], bytes_max: int) -> str:
    texts = [doc.text for doc in docs if doc.text]
    if docs[-1].cut:
        texts.append(f"[Instructions end here: only {bytes_max} bytes of them are read.]")
    return "\n\n".join(texts)


def _project(directories: list[Path], names: tuple[str, ...], bytes_max: int) -> list[_Doc]:
    """The project's files up to the first that is cut. Nothing further is looked at then."""
    docs: list[_Doc] = []
    left = bytes_max
    for directory in directories if bytes_max else []:
        found = next((doc for name in names if (doc := _read(directory / name, left)) is not None), None)
        if found is None:
            continue
        docs.append(found)
        left -= found.size
        if found.cut:
            break
    return docs


def _directories(home: Path, cwd: str) -> list[Path]:
    """From the git root down to `cwd`. The home's own directory is left out: its file is told already."""
    try:
        here, own = Path(cwd).resolve(), home.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
        return []
    upward = [here, *here.parents][:PROJECT_DEPTH_MAX]
    root = next((depth for depth, directory in enumerate(upward) if _is_git_root(directory)), 0)
    return [directory for directory in reversed(upward[: root + 1]) if directory != own]


def _is_git_root(directory: Path) -> bool:
    """`.git` is a directory, or a file in work trees and submodules."""
    try:
        mode = (directory / ".git").stat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _read(path: Path, bytes_max: int) -> _Doc | None:
    """The beginning of a file; None where it is blank or cannot be used."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
            content = file.read(bytes_max + _LOOK_AHEAD_BYTES)
    except (OSError, ValueError):
        return None
    content = content.rstrip()
    cut = len(content) > bytes_max
    used = content[:bytes_max]
    # Not final: what a cut leaves of a character at its end is left out, not replaced.
    text = codecs.getincrementaldecoder("utf-8-sig")("replace").decode(used, final=not cut).strip()
    return _Doc(text, len(used), cut) if text or cut else None

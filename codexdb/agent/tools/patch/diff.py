"""What all patches of a turn have changed: one diff in the style of git, from what stood there first to what is now."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from codexdb.agent.tools.patch import disk, unified
from codexdb.agent.tools.patch.disk import ABSENT, NO_FILES, Image, Unusable
from codexdb.domain.limits import DIFF_BYTES_MAX, PATCH_FILE_BYTES_MAX

_CONTEXT_LINES = 3
_NO_BLOB = "0" * 40
_QUOTED = re.compile(r'["\\\x00-\x1f\x7f]')
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def turn_diff(
    first: Mapping[str, Image],
    moves: Sequence[tuple[str, str]],
    cwd: str,
    *,
    keep_off: frozenset[tuple[int, int]] = NO_FILES,
) -> str:
    """The cumulative diff; "" where everything is as it was.

    `first` is what stood at each path before the turn's first patch that touched it, `moves` those of all its patches
    in their order. What stands there now is read from the disk, so that failed patches and later changes by others
    are seen as they are. Names are relative to the git root above `cwd`, else to `cwd`; outside of it absolute.
    `git apply` takes the result, unless a file is binary or was too large to be kept. Blocks; the time is bounded.
    """
    base = _git_root(os.path.realpath(cwd))
    now = {path: _present(path, keep_off) for path in first}
    pairs = sorted(_pairs(first, now, moves), key=lambda pair: pair[1] or pair[0])
    parts: list[str] = []
    left = DIFF_BYTES_MAX
    for old_path, new_path in pairs:
        old = first[old_path] if old_path else ABSENT
        new = now[new_path] if new_path else ABSENT
        part = _Entry(_name(old_path or new_path, base), _name(new_path or old_path, base), old, new).text()
        size = len(part.encode(errors="replace"))
        if size > left:
            part = f"(a diff of {size} bytes is left out here: {_name(new_path or old_path, base)})\n"
        left -= len(part)
        parts.append(part)
    return "".join(parts)


def merge(first: dict[str, Image], images: Mapping[str, Image]) -> None:
    """Take up what another patch of the turn found: only paths that none before it has touched."""
    for path, image in images.items():
        first.setdefault(path, image)


def blob_id(content: bytes) -> str:
    """The name that git gives to a file of that content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _present(path: str, keep_off: frozenset[tuple[int, int]]) -> Image:
    try:
        return disk.look(path, PATCH_FILE_BYTES_MAX, keep_off)
    except Unusable:  # a directory by now, or not ours to read: as good as gone
        return ABSENT


def _pairs(
    first: Mapping[str, Image], now: Mapping[str, Image], moves: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Names before and after, "" for none. Files that were moved are one pair."""
    origins: dict[str, str] = {}
    for source, target in moves:
        origins[target] = origins.pop(source, source)
    renamed = {
        source: target
        for target, source in origins.items()
        if first[source].exists and not now[source].exists and now[target].exists and not first[target].exists
    }
    targets = set(renamed.values())
    for path, image in first.items():
        if path in renamed:
            yield path, renamed[path]
        elif path not in targets and _differ(image, now[path]):
            yield path if image.exists else "", path if now[path].exists else ""


def _differ(old: Image, new: Image) -> bool:
    if old.exists and new.exists and not (old.kept and new.kept):
        return old.identity != new.identity or not old.identity
    return (old.kind, old.content, _git_mode(old)) != (new.kind, new.content, _git_mode(new))


def _git_mode(image: Image) -> str:
    if image.kind == "link":
        return "120000"
    return "100755" if image.mode & 0o100 else "100644"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the diff."""

    old_name: str
    new_name: str
    old: Image
    new: Image

    def text(self) -> str:
        head = f"diff --git {_side('a', self.old_name)} {_side('b', self.new_name)}\n" + "".join(self._header())
        if self.old.content == self.new.content and self.old.kind == self.new.kind and self.old.kept:
            return head
        old, new = _text(self.old), _text(self.new)
        left = _side("a", self.old_name) if self.old.exists else "/dev/null"
        right = _side("b", self.new_name) if self.new.exists else "/dev/null"
        if self.old.kept and self.new.kept:
            head += f"index {_blob(self.old)}..{_blob(self.new)}\n"
        if old is None or new is None:
            unkept = "" if self.old.kept else f"(what {_quoted(self.old_name)} held before was too large to be kept)\n"
            return f"{head}Binary files {left} and {right} differ\n{unkept}"
        hunks = unified.hunks(old, new, _CONTEXT_LINES)
        return f"{head}--- {_ended(left)}\n+++ {_ended(right)}\n{hunks}" if hunks else head

    def _header(self) -> Iterator[str]:
        if not self.old.exists:
            yield f"new file mode {_git_mode(self.new)}\n"
        elif not self.new.exists:
            yield f"deleted file mode {_git_mode(self.old)}\n"
        elif _git_mode(self.old) != _git_mode(self.new):
            yield f"old mode {_git_mode(self.old)}\nnew mode {_git_mode(self.new)}\n"
        if self.old_name != self.new_name:
            yield f"rename from {_quoted(self.old_name)}\nrename to {_quoted(self.new_name)}\n"


def _blob(image: Image) -> str:
    return _NO_BLOB if image.content is None else blob_id(image.content)


def _text(image: Image) -> str | None:
    """None where it is binary, or not kept."""
    if not image.exists:
        return ""
    if image.content is None or b"\0" in image.content:
        return None
    try:
        return image.content.decode()
    except UnicodeDecodeError:
        return None


# -- names -----------------------------------------------------------------------------------------------------------


def _git_root(folder: str) -> str:
    at = folder
    while not os.path.lexists(os.path.join(at, ".git")):
        parent = os.path.dirname(at)
        if parent == at:
            return folder
        at = parent
    return at


def _name(path: str, base: str) -> str:
    inside = path.startswith(base.rstrip("/") + "/")
    return path[len(base.rstrip("/")) + 1 :] if inside else path


def _side(side: str, name: str) -> str:
    return _quoted(f"{side}/{name}")


def _quoted(name: str) -> str:
    """As git writes names that would be misread."""
    if not _QUOTED.search(name):
        return name
    return '"' + _QUOTED.sub(lambda found: _ESCAPES.get(found[0], f"\\{ord(found[0]):03o}"), name) + '"'


def _ended(name: str) -> str:
    """Git ends a name that contains blanks with a tab, since a date could follow."""
    return f"{name}\t" if " " in name and not name.startswith('"') else name

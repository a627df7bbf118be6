"""What a patch would do, worked out to the last byte before anything is written. Reads files, changes nothing."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from codexdb.agent.tools.patch import disk, filetext, matching, wording
from codexdb.agent.tools.patch.disk import ABSENT, NO_FILES, Image, Place, Unusable
from codexdb.agent.tools.patch.filetext import FileText
from codexdb.agent.tools.patch.grammar import AddFile, DeleteFile, Section, UpdateFile
from codexdb.domain.limits import (
    PATCH_FILE_BYTES_MAX,
    PATCH_KEPT_BYTES_MAX,
    PATCH_LOOSE_NOTES_MAX,
    PATCH_TOTAL_BYTES_MAX,
)


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path from what stands there now to what will."""

    path: str  # absolute, without links: what is really changed
    shown: str  # absolute, as events and sentences name it
    given: str  # as the patch names it
    before: Image
    after: bytes | None  # None: the path will be free
    mode: int | None  # permission bits of `after`; None: those that new files get
    owner: tuple[int, int] | None  # user and group of `after`; None: who applies it
    whole: bool  # the patch holds all of `after`


@dataclass(frozen=True, slots=True)
class Plan:
    """A verified patch. Holds until somebody else changes one of its files, which `apply` notices."""

    cwd: str
    changes: tuple[FileChange, ...]  # one per path, in the order in which the patch first names them
    moves: tuple[tuple[str, str], ...]  # paths of `changes`, in patch order
    success: str  # what the model reads if it is applied
    obstacle: str | None  # it will fail with this sentence, and change nothing

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that is written, replaced or removed, real and absolute: what a caller has to allow."""
        return tuple(change.path for change in self.changes)

    @property
    def images(self) -> dict[str, Image]:
        """What stood at each of `paths` before."""
        return {change.path: change.before for change in self.changes}


def verify(sections: Sequence[Section], cwd: str, *, keep_off: frozenset[tuple[int, int]] = NO_FILES) -> Plan | str:
    """What the sections do in `cwd`, an absolute path, each seeing what those before it did; or what to tell the model.

    Files whose (device, inode) is in `keep_off` are never opened. Blocks while files are read, up to
    `PATCH_TOTAL_BYTES_MAX` in all, and compared, up to `PATCH_WORK_MAX`.
    """
    if not sections:
        return wording.EMPTY
    run = _Run(cwd, keep_off)
    try:
        for section in sections:
            run.take(section)
    except _Refused as refusal:
        return f"error: {refusal}"
    return run.plan()


def folders(sections: Sequence[Section], cwd: str) -> set[str]:
    """Where the sections write and delete: the folders in which a run that was killed may have left something."""
    named = [section.path for section in sections]
    named += [section.move_to for section in sections if isinstance(section, UpdateFile) and section.move_to]
    places = [disk.place(cwd, name) for name in named]
    return {os.path.dirname(path) for each in places for path in (each.entry, each.real)}


class _Refused(Exception):  # noqa: N818 - ends in a text, in `verify`
    pass


@dataclass(slots=True)
class _Node:
    """A path while the sections go by."""

    place: Place
    path: str
    before: Image
    content: bytes | None = None  # what stands there now; None: nothing, or `text`
    text: FileText | None = None
    mode: int | None = None
    owner: tuple[int, int] | None = None
    whole: bool = False

    def free(self) -> None:
        self.content, self.text, self.whole = None, None, False

    @property
    def exists(self) -> bool:
        return self.content is not None or self.text is not None

    def change(self) -> FileChange:
        after = self.content if self.text is None else self.text.encode()
        place, before = self.place, self.before
        return FileChange(self.path, place.shown, place.given, before, after, self.mode, self.owner, whole=self.whole)


@dataclass(slots=True)
class _Run:
    cwd: str
    keep_off: frozenset[tuple[int, int]]
    nodes: dict[str, _Node] = field(default_factory=dict[str, _Node])
    moves: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    done: dict[str, dict[str, None]] = field(default_factory=lambda: {"A": {}, "M": {}, "D": {}})
    loose: list[str] = field(default_factory=list[str])
    obstacle: str | None = None
    work: matching.Work = field(default_factory=matching.Work)
    bytes_left: int = PATCH_TOTAL_BYTES_MAX
    kept_left: int = PATCH_KEPT_BYTES_MAX

    def take(self, section: Section) -> None:
        match section:
            case AddFile(path, content):
                self._add(path, content)
            case DeleteFile(path):
                self._delete(path)
            case UpdateFile():
                self._update(section)

    def plan(self) -> Plan:
        self._check_folders()
        lines = [wording.SUCCESS, *(f"{letter} {path}" for letter, paths in self.done.items() for path in paths)]
        lines += self.loose[:PATCH_LOOSE_NOTES_MAX]
        if len(self.loose) > PATCH_LOOSE_NOTES_MAX:
            lines.append(f"Note: {len(self.loose) - PATCH_LOOSE_NOTES_MAX} more changes did not match exactly.")
        success = "".join(f"{line}\n" for line in lines)
        changes = tuple(node.change() for node in self.nodes.values())
        return Plan(self.cwd, changes, tuple(self.moves), success, self.obstacle)

    # -- sections ----------------------------------------------------------------------------------------------------

    def _add(self, given: str, content: str) -> None:
        node = self._target(given)
        node.content, node.text, node.whole = content.encode(), None, True
        self.done["A"][given] = None

    def _delete(self, given: str) -> None:
        place = disk.place(self.cwd, given)
        node = self.nodes.get(place.entry)
        if node is None:
            node = self.nodes[place.entry] = self._doomed(place)
        elif not node.exists:
            self._obstruct(f"Failed to delete file {given}")
        node.free()
        self.done["D"][given] = None

    def _doomed(self, place: Place) -> _Node:
        try:
            before = self._look(place.entry, self._keep_max())
        except Unusable:
            before = ABSENT
        to_folder = before.kind == "link" and os.path.isdir(place.entry)
        if not before.exists or to_folder or place.given.endswith("/"):
            self._obstruct(f"Failed to delete file {place.given}")
        self.kept_left -= len(before.content or b"")
        return _Node(place, place.entry, before)

    def _update(self, section: UpdateFile) -> None:
        place = disk.place(self.cwd, section.path)
        node = self._source(place)
        if section.chunks:
            node.text = self._edited(node, section)
            node.content, node.whole = None, False
        if section.move_to is not None:
            self._move(node, section.move_to)
        self.done["M"][section.move_to or section.path] = None

    def _edited(self, node: _Node, section: UpdateFile) -> FileText:
        shown = node.place.shown
        text = self._text(node) if node.text is None else node.text
        try:
            edited = matching.edit(text, section.chunks, shown, self.work)
        except matching.TooMuchWork:
            why = "it takes too many comparisons; give fewer lines that the file repeats"
            raise _Refused(f"Failed to find the places to change in {shown}: {why}") from None
        if isinstance(edited, str):
            raise _Refused(edited)
        self.loose += [
            f"Note: {section.path} line {loose.line} did not match exactly: {loose.how}." for loose in edited.loose
        ]
        return edited.text

    def _text(self, node: _Node) -> FileText:
        content = node.content or b""
        if b"\0" in content:
            raise _unreadable(node.place, "it contains NUL bytes and is no text")
        try:
            return filetext.decode(content)
        except UnicodeDecodeError:
            raise _unreadable(node.place, "stream did not contain valid UTF-8") from None

    def _move(self, source: _Node, given: str) -> None:
        place = disk.place(self.cwd, given)
        if self._known_path(place) == source.path and not given.endswith("/"):
            return
        if source.place.entry != source.path:
            raise _unreadable(source.place, "it is a symbolic link, which cannot be moved")
        if _same_but_for_case(source.path, place.real):
            raise _Refused(f"Failed to write file {given}: this disk does not tell it from {source.place.given}")
        target = self._target(given)
        target.content, target.text, target.whole = source.content, source.text, source.whole
        target.mode, target.owner = source.mode, source.owner
        source.free()
        self.moves.append((source.path, target.path))

    # -- paths -------------------------------------------------------------------------------------------------------

    def _known_path(self, place: Place) -> str:
        """Where that place leads after the sections so far."""
        return place.entry if place.entry in self.nodes else place.real

    def _target(self, given: str) -> _Node:
        """The path to be written, whatever stands there."""
        place = disk.place(self.cwd, given)
        path = self._known_path(place)
        node = self.nodes.get(path)
        if node is None:
            before = ABSENT
            try:
                before = self._replaceable(path, given)
            except Unusable as why:
                self._obstruct(f"Failed to write file {given}: {why}")
            self.kept_left -= len(before.content or b"")
            node = self.nodes[path] = _Node(place, path, before)
            if before.kind == "file":
                node.mode, node.owner = before.mode, before.owner
        return node

    def _replaceable(self, path: str, given: str) -> Image:
        if given.endswith("/"):
            raise Unusable(_os_text(errno.EISDIR))
        before = self._look(path, self._keep_max())
        if before.kind == "link":
            raise Unusable(_os_text(errno.ELOOP))
        return before

    def _source(self, place: Place) -> _Node:
        """The file to be changed, with its content."""
        path = self._known_path(place)
        node = self.nodes.get(path)
        if node is None:
            try:
                before = self._look(path, PATCH_FILE_BYTES_MAX)
            except Unusable as why:
                raise _unreadable(place, str(why)) from why
            node = _Node(place, path, before, before.content, mode=before.mode, owner=before.owner)
            self._check(node)
            self.nodes[path] = node
        if not node.exists:
            raise _unreadable(place, _os_text(errno.ENOENT))
        return node

    def _check(self, node: _Node) -> None:
        before = node.before
        if before.kind == "link":
            raise _unreadable(node.place, _os_text(errno.ELOOP))
        if before.kind == "file" and before.content is None:
            raise _unreadable(node.place, f"it is larger than {PATCH_FILE_BYTES_MAX} bytes")
        self.bytes_left -= before.size
        if self.bytes_left < 0:
            raise _unreadable(node.place, f"the files of this patch are larger than {PATCH_TOTAL_BYTES_MAX} bytes")

    def _look(self, path: str, bytes_max: int) -> Image:
        return disk.look(path, bytes_max, self.keep_off)

    def _check_folders(self) -> None:
        """No file stands where another one needs a folder."""
        written = {path: node.place.given for path, node in self.nodes.items() if node.exists}
        for path, given in written.items():
            folder = os.path.dirname(path)
            while folder not in written and folder != os.path.dirname(folder):
                folder = os.path.dirname(folder)
            if folder in written:
                self._obstruct(f"Failed to create parent directories for {given}: {_os_text(errno.ENOTDIR)}")

    def _keep_max(self) -> int:
        return min(PATCH_FILE_BYTES_MAX, max(0, self.kept_left))

    def _obstruct(self, why: str) -> None:
        self.obstacle = self.obstacle or why


def _os_text(number: int) -> str:
    return wording.os_text(OSError(number, ""))


def _unreadable(place: Place, why: str) -> _Refused:
    return _Refused(f"Failed to read file to update {place.shown}: {why}")


def _same_but_for_case(one: str, other: str) -> bool:
    if one == other or one.casefold() != other.casefold():
        return False
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False

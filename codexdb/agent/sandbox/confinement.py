"""What a command may touch, as paths of this machine, and who holds it to that. Imports the standard library only."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


class Backend(StrEnum):
    """What the kernel is asked through."""

    BWRAP = "bwrap"
    LANDLOCK = "landlock"
    NONE = "none"


PROTECTED = (".git", ".codex", ".agents")
"""What stays read-only directly inside a writable root: hooks and instructions that others would obey later."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a command may touch. Everything may be read, and `/dev/null` be written, always."""

    writable_roots: tuple[str, ...] = ()  # absolute, without symlinks, parents first; empty: nothing may be written
    network: bool = False  # False: neither TCP nor UDP, and no connection to a Unix socket
    protected: tuple[str, ...] = PROTECTED  # names inside each root; Landlock cannot hold this
    shared_memory: bool = False  # whether `/dev/shm` may be written, its own one where the backend has one


def within(path: str, root: str) -> bool:
    """Whether the path is the root, or below it. Both absolute and normalised."""
    return PurePosixPath(path).is_relative_to(root)

"""What a session's sandbox mode allows its commands."""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from codexdb.agent.sandbox.confinement import Confinement, within
from codexdb.config.resolve import WorkspaceWrite
from codexdb.domain.session import SandboxMode, SessionSettings


def confinement_of(
    settings: SessionSettings, workspace: WorkspaceWrite, environ: Mapping[str, str]
) -> Confinement | None:
    """What commands of such a session may touch. None: everything.

    `environ` is what commands get; its TMPDIR counts. Roots that do not exist are left out. So is a root that is
    reached through a symlink inside another root: a command could point that anywhere for the next one.
    Looks at the file system; blocks for as long as that takes.
    """
    match settings.sandbox_mode:
        case SandboxMode.DANGER_FULL_ACCESS:
            return None
        case SandboxMode.READ_ONLY:
            return Confinement()
        case SandboxMode.WORKSPACE_WRITE:
            return Confinement(
                writable_roots=_resolved(tuple(_roots(settings.cwd, workspace, environ))),
                network=settings.network_access,
                shared_memory=True,
            )


def _roots(cwd: str, workspace: WorkspaceWrite, environ: Mapping[str, str]) -> Iterator[str]:
    yield cwd
    yield from workspace.writable_roots
    if not workspace.exclude_slash_tmp:
        yield "/tmp"  # noqa: S108 - what the mode means, not a file of ours
    if not workspace.exclude_tmpdir_env_var:
        yield environ.get("TMPDIR", "")


def _resolved(paths: tuple[str, ...]) -> tuple[str, ...]:
    roots = {path: os.path.realpath(path) for path in paths if os.path.isabs(path) and os.path.exists(path)}  # noqa: PTH110, PTH117
    kept = {
        root
        for path, root in roots.items()
        if not any(within(link, other) for link in _symlinks(path) for other in roots.values() if other != root)
    }
    return tuple(sorted(kept, key=lambda root: PurePosixPath(root).parts))


def _symlinks(path: str) -> Iterator[str]:
    """The directories that hold a symlink on the way to `path`."""
    at = "/"
    for part in PurePosixPath(path).parts[1:]:
        step = os.path.join(at, part)  # noqa: PTH118
        if os.path.islink(step):  # noqa: PTH114
            yield at
        at = os.path.realpath(step)

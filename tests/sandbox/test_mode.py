"""From a session's settings to paths; what a refusal looks like; and the filter's steps on both machines."""

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexdb.agent.sandbox import bwrap, seccomp
from codexdb.agent.sandbox.confinement import PROTECTED, Confinement
from codexdb.agent.sandbox.denial import looks_denied
from codexdb.agent.sandbox.mode import confinement_of
from codexdb.config.resolve import WorkspaceWrite
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings

NO_TMP = WorkspaceWrite(exclude_slash_tmp=True, exclude_tmpdir_env_var=True)


def settings(cwd: Path, mode: SandboxMode = SandboxMode.WORKSPACE_WRITE, *, network: bool = False) -> SessionSettings:
    return SessionSettings("m", "p", str(cwd), ApprovalPolicy.NEVER, mode, network_access=network)


def roots(cwd: Path, workspace: WorkspaceWrite = NO_TMP, **environ: str) -> set[str]:
    made = confinement_of(settings(cwd), workspace, environ)
    assert made is not None
    return set(made.writable_roots)


def test_full_access_is_no_confinement(tmp_path: Path) -> None:
    assert confinement_of(settings(tmp_path, SandboxMode.DANGER_FULL_ACCESS), NO_TMP, {}) is None


def test_read_only_has_no_root_and_no_network(tmp_path: Path) -> None:
    made = confinement_of(settings(tmp_path, SandboxMode.READ_ONLY, network=True), WorkspaceWrite(), {"TMPDIR": "/"})
    assert made == Confinement((), network=False, protected=PROTECTED, shared_memory=False)


def test_workspace_write_has_the_roots_that_exist(tmp_path: Path) -> None:
    cwd, more, tmpdir = (tmp_path / name for name in ("work", "more", "tmp"))
    for folder in (cwd, more, tmpdir):
        folder.mkdir()
    workspace = WorkspaceWrite(writable_roots=(str(more), str(tmp_path / "absent"), "relative"))
    assert roots(cwd, workspace, TMPDIR=str(tmpdir)) == {
        *(str(folder.resolve()) for folder in (cwd, more, tmpdir)),
        str(Path("/tmp").resolve()),  # noqa: S108
    }
    assert roots(cwd, NO_TMP, TMPDIR=str(tmpdir)) == {str(cwd.resolve())}


def test_parents_come_before_what_is_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    made = confinement_of(settings(folder), WorkspaceWrite((str(tmp_path),), exclude_slash_tmp=True), {})
    assert made is not None
    assert made.writable_roots == (str(tmp_path.resolve()), str(folder.resolve()))


def test_a_root_is_what_its_symlinks_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert roots(tmp_path / "link") == {str((tmp_path / "real").resolve())}


def test_a_root_behind_a_symlink_that_commands_could_turn_is_left_out(tmp_path: Path) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    victim.mkdir()
    (shared / "work").symlink_to(victim)
    workspace = WorkspaceWrite((str(shared),), exclude_slash_tmp=True)
    assert roots(shared / "work", workspace) == {str(shared.resolve())}


def test_a_network_is_what_the_settings_say(tmp_path: Path) -> None:
    made = confinement_of(settings(tmp_path, network=True), NO_TMP, {})
    assert made is not None
    assert made.network


def test_bubblewrap_also_protects_what_a_git_file_names(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    (main / ".git/worktrees/tree").mkdir(parents=True)
    (main / ".git/worktrees/tree/commondir").write_text("../..\n")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main}/.git/worktrees/tree\n")
    root = str(tmp_path.resolve())
    line = bwrap.arguments("bwrap", ["true"], root, Confinement((root, f"{root}/tree")), None)
    assert "\0".join(("--ro-bind", f"{root}/main/.git", f"{root}/main/.git")) in "\0".join(line)
    assert "\0".join(("--ro-bind", f"{root}/tree/.git", f"{root}/tree/.git")) in "\0".join(line)


@pytest.mark.parametrize(
    ("exit_code", "number", "output", "denied"),
    [
        (1, None, "touch: cannot touch 'x': Permission denied", True),
        (1, None, "sh: 1: cannot create x: Read-only file system", True),
        (2, None, "connect: operation not permitted", True),
        (1, None, "curl: (7) Network is unreachable", True),
        (126, None, "", True),
        (159, None, "", True),
        (None, signal.SIGSYS, "", True),
        (0, None, "Permission denied", False),
        (1, None, "grep found nothing", False),
        (127, None, "not found", False),
        (None, signal.SIGKILL, "Permission denied", False),
        (None, None, "Permission denied", False),
    ],
)
def test_a_refusal_is_told_from_a_failure(exit_code: int | None, number: int | None, output: str, denied: bool) -> None:
    assert looks_denied(exit_code, number, output) is denied


# -- the filter, run by a small machine like the kernel's ------------------------------------------------------------

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x50001, 0x80000000
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def judged(steps: bytes, number: int, arch: int, *arguments: int) -> int:
    data = struct.pack("=iIQ6Q", number, arch, 0, *arguments, *([0] * (6 - len(arguments))))
    at, held = 0, 0
    while True:
        code, yes, no, value = struct.unpack_from("=HBBI", steps, at * 8)
        at += 1
        if code == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            at += yes if (held == value if code == 0x15 else held >= value) else no


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(seccomp, "_machine", lambda: seccomp.MACHINES[request.param])
    seccomp.program.cache_clear()
    yield request.param
    seccomp.program.cache_clear()


def test_the_filter_judges_calls_on_both_machines(machine: str) -> None:
    steps = seccomp.program(network=False, metadata=True, mounts=False)
    assert steps is not None
    arch, known = ARCHES[machine], seccomp.MACHINES[machine]
    assert {judged(steps, number, arch) for number in (*known.refused, *known.mounts)} == {REFUSE}
    assert {judged(steps, number, arch) for number in (0, 1, 56, *known.metadata)} == {ALLOW}
    for number in known.unix_only:
        assert [judged(steps, number, arch, family) for family in (1, 2, 10, 16, 17)] == [ALLOW, *[REFUSE] * 4]
    addresses = (0, 1, 1 << 32, 1 << 31)
    assert [judged(steps, known.sendto, arch, 3, 0, 0, 0, each) for each in addresses] == [ALLOW, *[REFUSE] * 3]
    assert judged(steps, 0, 0x40000003) == KILL
    assert judged(steps, 0x40000000, arch) == (REFUSE if machine == "x86_64" else ALLOW)


def test_the_filter_refuses_no_more_than_it_is_asked_to(machine: str) -> None:
    arch, known = ARCHES[machine], seccomp.MACHINES[machine]
    steps = seccomp.program(network=True, metadata=False, mounts=True)
    assert steps is not None
    assert {judged(steps, number, arch) for number in known.metadata} == {REFUSE}
    assert {judged(steps, number, arch, 2) for number in (*known.refused, *known.unix_only, known.sendto)} == {ALLOW}
    assert seccomp.program(network=True, metadata=True, mounts=True) is None

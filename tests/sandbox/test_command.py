"""`codexdb sandbox`, and what `codexdb doctor` says of backends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codexdb.agent.sandbox.choice import survey
from codexdb.config.resolve import Request, resolve
from codexdb.config.schema import SandboxBackend
from codexdb.domain.errors import InvalidConfigError

WAIT_S = 60
Codexdb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def codexdb(home: Path, tmp_path: Path) -> Codexdb:
    """Runs codexdb in `work`, an empty folder outside of every writable root but itself."""
    work = tmp_path / "work"
    work.mkdir()
    write(home)

    def run(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": path, "CODEX_HOME": str(home), "TMPDIR": str(tmp_path / "absent")}
        argv = [sys.executable, "-m", "codexdb", *arguments]
        return subprocess.run(
            argv, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S
        )

    return run


def write(home: Path, backend: str = "auto") -> None:
    text = f'sandbox_backend = "{backend}"\n[sandbox_workspace_write]\nexclude_slash_tmp = true\n'
    (home / "config.toml").write_text(text)


def needs(backend: str) -> None:
    for each in survey():
        if each.backend.value == backend and each.why_not is not None:
            pytest.skip(f"{backend}: {each.why_not}")


@pytest.mark.parametrize("backend", ["bwrap", "landlock"])
def test_a_person_sees_what_a_mode_refuses(codexdb: Codexdb, tmp_path: Path, backend: str) -> None:
    needs(backend)
    refused = codexdb("sandbox", "--backend", backend, "--", "touch", "file")
    assert refused.returncode == 1
    assert "touch" in refused.stderr
    assert not (tmp_path / "work/file").exists()
    allowed = codexdb("sandbox", "-s", "workspace-write", "--backend", backend, "--", "sh", "-c", "echo x | tee file")
    assert (allowed.returncode, allowed.stdout, allowed.stderr) == (0, "x\n", "")
    assert (tmp_path / "work/file").read_text() == "x\n"
    outside = codexdb("sandbox", "-s", "workspace-write", "--backend", backend, "touch", "../file")
    assert outside.returncode == 1
    assert not (tmp_path / "file").exists()


def test_the_exit_code_is_the_commands_and_its_options_are_its_own(codexdb: Codexdb) -> None:
    done = codexdb("sandbox", "-s", "danger-full-access", "sh", "-c", 'echo "$0"; exit 42', "-s")
    assert (done.returncode, done.stdout) == (42, "-s\n")
    killed = codexdb("sandbox", "-s", "danger-full-access", "--", "sh", "-c", "kill -KILL $$")
    assert killed.returncode == 137


def test_a_network_can_be_allowed(codexdb: Codexdb) -> None:
    needs("landlock")
    script = 'echo "${CODEX_SANDBOX_NETWORK_DISABLED-unset}"'
    said = [codexdb("sandbox", *network, "--", "sh", "-c", script).stdout for network in ((), ("--network",))]
    assert said == ["1\n", "unset\n"]


def test_what_nothing_holds_to_its_mode_does_not_run(codexdb: Codexdb, home: Path, tmp_path: Path) -> None:
    write(home, "none")
    done = codexdb("sandbox", "-s", "workspace-write", "--", "touch", "file")
    assert done.returncode == 1
    assert "was not run" in done.stderr
    assert not (tmp_path / "work/file").exists()


def test_what_cannot_be_started_says_why(codexdb: Codexdb) -> None:
    done = codexdb("sandbox", "-s", "danger-full-access", "--", "no-such-program")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "codexdb sandbox: no-such-program: No such file or directory (os error 2)\n"


def test_a_configuration_that_cannot_be_used_says_why(codexdb: Codexdb, home: Path) -> None:
    write(home, "jail")
    done = codexdb("sandbox", "--", "true")
    assert done.returncode == 1
    assert "unknown variant `jail`, expected one of `auto`, `bwrap`, `landlock`, `none`" in done.stderr


def test_doctor_says_which_backends_work_and_why_not(codexdb: Codexdb, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho Failed RTM_NEWADDR >&2\nexit 1\n")
    program.chmod(0o755)
    lines = codexdb("doctor", "--json", path=f"{tmp_path}:{os.environ['PATH']}").stdout.splitlines()
    found = [each["found"] for each in map(json.loads, lines) if each["about"] == "sandbox"]
    assert len(found) == 2
    assert found[0] == f"bubblewrap, {program}: Failed RTM_NEWADDR"
    assert "Landlock" in found[1]


def test_the_backend_is_the_one_of_the_configuration(home: Path) -> None:
    def settled(**config: object) -> SandboxBackend:
        request = Request(config=dict(config))
        return resolve(request, home=home, environ={}, server_cwd=Path("/")).sandbox_backend

    assert settled() is SandboxBackend.AUTO
    assert settled(sandbox_backend="landlock") is SandboxBackend.LANDLOCK
    with pytest.raises(InvalidConfigError, match="unknown variant `jail`"):
        settled(sandbox_backend="jail")

"""A server is killed in the middle of a patch that a person has approved, and that nothing but it applies."""

import contextlib
import signal
import sys
from pathlib import Path

import pytest

from codexdb.store.calls import UNKNOWN
from codexdb.testing.crashing import VARIABLE
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcessError, StartServer
from tests.process.asked import UNTRUSTED, outputs, question, questions, start
from tests.process.talking import at_rest, read, rows
from tests.process.test_patches import last_diff, patch, staged, told

CRASHING = (sys.executable, "-m", "codexdb.testing.crashing", "serve")
OTHERS = (".codexdb-patch-0123456789abcdef.0.new", ".codexdb-patch-mine")  # of somebody else, who may yet need them
WAIT_S = 15.0


@pytest.mark.parametrize(
    ("at", "first", "second"),
    [("patch.staged", "old\n", None), ("patch.replaced", "new\n", None), ("patch.replaced:2", "new\n", "new\n")],
)
def test_a_patch_that_was_cut_off_is_not_applied_again_and_leaves_nothing_beside_its_files(
    server: StartServer,
    model: ScriptedModel,
    tmp_path: Path,
    database: Path,
    at: str,
    first: str,
    second: str | None,
) -> None:
    work = tmp_path / "work"
    (work / "below").mkdir(parents=True)
    one, two, gone = work / "one", work / "below" / "two", work / "gone"
    one.write_text("old\n")
    gone.write_text("still here\n")
    model.add(
        call_tools(
            patch(
                "p1",
                *("*** Update File: one", "@@", "-old", "+new"),
                *("*** Add File: below/two", "+new"),
                "*** Delete File: gone",
            )
        ),
        say("done"),
    )
    client = server(config=UNTRUSTED, argv=CRASHING, env={VARIABLE: at})
    session = start(client, cwd=str(work))
    asked = question(client)
    with contextlib.suppress(ServerProcessError):  # it may be gone at any line
        client.respond(asked["id"], {"decision": "approved"})
    assert client.wait_exit(WAIT_S) == -signal.SIGKILL, client.stderr
    assert len(staged(work, work / "below")) > 2
    for name in OTHERS:
        (work / name).write_text("")
    after = server()
    page = at_rest(after, session)
    assert page["last_turn"]["state"] == "completed"
    assert rows(database, "SELECT state, output FROM tool_calls") == [("unknown", None)]
    assert one.read_text() == first
    assert (two.read_text() if two.exists() else None) == second
    assert gone.read_text() == "still here\n"
    assert sorted(staged(work, work / "below")) == sorted(OTHERS)
    assert UNKNOWN in outputs(model)["p1"]
    for path in (one, two, gone):
        assert str(path) in outputs(model)["p1"]
    assert len(model.requests) == 2
    assert len(questions(client)) == 1
    assert questions(after) == []
    assert [(end["success"], end["stderr"]) for end in told(page, "patch_apply_end")] == [(False, outputs(model)["p1"])]
    diffs = told(read(after, session), "turn_diff")
    assert len(diffs) == (1 if first == "new\n" else 0)
    if diffs:
        assert "\n-old\n+new\n" in last_diff(page)
        assert ("new file mode" in last_diff(page)) == (second is not None)

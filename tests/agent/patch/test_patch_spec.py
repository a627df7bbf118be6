"""What a model is told about patches is true."""

import re
from pathlib import Path

from patching import files_in, lay_out

from codexdb.agent.tools.patch.__main__ import run
from codexdb.agent.tools.patch.spec import PatchCall, manual, parse, spec


def _example() -> str:
    found = re.search(
        r"^    \*\*\* Begin Patch\n.*?^    \*\*\* End Patch$", spec().description, re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return "\n".join(line.removeprefix("    ") for line in found[0].split("\n"))


def test_the_example_is_a_patch(tmp_path: Path) -> None:
    app = 'def greet():\n     name = ask()\n     print("hi")\n     return name\n'
    lay_out(tmp_path, {"src/app.py": app.replace("     ", "    "), "old.txt": ""})
    done, text = run(_example(), str(tmp_path))
    assert done, text
    assert text == "Success. Updated the following files:\nA docs/new.md\nM src/main.py\nD old.txt\n"
    assert files_in(tmp_path) == {
        "docs/new.md": b"first line\nsecond line\n",
        "src/main.py": b'def greet():\n    name = ask()\n    print("hello", name)\n    return name\n',
    }


def test_the_manual_for_models_without_the_tool_shows_the_command() -> None:
    assert '["apply_patch", "*** Begin Patch' in manual()
    assert _example().splitlines()[3] in manual()
    assert len(manual().encode()) < 2_900  # it is sent with every request


def test_arguments() -> None:
    assert parse('{"input": "*** Begin Patch"}') == PatchCall(input="*** Begin Patch")
    assert parse('{"input": "x", "more": 1}') == PatchCall(input="x")
    for arguments in ("", "x", "{}", '{"input": 1}', "[]", '{"patch": "x"}'):
        answer = parse(arguments)
        assert isinstance(answer, str)
        assert answer.startswith("failed to parse function arguments: ")

"""The documentation says what the code does: generated pages are current, and what they must name is named."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codexdb.cli.commands import codexdb
from codexdb.cli.serve_options import COMMANDS, OPTIONS, parse
from codexdb.domain import crash, transition
from codexdb.domain.errors import CodexDBError
from codexdb.domain.outcome import IfRunning
from codexdb.protocol.tools import BY_NAME
from codexdb.store.describe import COLUMNS, TABLES
from codexdb.store.tables import metadata
from tests.docs import generate, states_page, tools_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ADR = DOCS / "adr"
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
        if (ROOT / name).exists()
    ),
    *sorted(DOCS.rglob("*.md")),
]
RENDERERS = {"turn_error": 2, "status_error": 1, "message_error": 1, "failed": 0}  # where each takes its kind


def _rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a line that begins with `heading`."""
    below = text[re.search(rf"^{re.escape(heading)}", text, re.MULTILINE).end() :]  # pyright: ignore[reportOptionalMemberAccess]
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", below, re.MULTILINE | re.DOTALL)
    assert table is not None, f"no table below {heading}"
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# -- generated pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["schema.md", "states.md", "invariants.md", "tools.md"])
def test_generated_page_is_current(name: str) -> None:
    wanted = generate.made()[DOCS / name]
    assert (DOCS / name).read_text(encoding="utf-8") == wanted, "run `python -m tests.docs.generate`"


def test_every_table_and_column_has_a_meaning_and_no_other() -> None:
    assert {name: set(table.columns.keys()) for name, table in metadata.tables.items()} == {
        name: set(columns) for name, columns in COLUMNS.items()
    }
    assert set(TABLES) == set(metadata.tables)


def test_every_state_has_a_meaning_and_no_other() -> None:
    assert {table.table: set(table.states) for table in transition.TABLES} == {
        name: set(meanings) for name, meanings in states_page.MEANINGS.items()
    }


def test_blocks_without_markers_are_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        generate.with_blocks("<!-- made: one -->\n<!-- end -->", {"one": "", "two": ""})


# -- tools.md --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_tool_is_documented(name: str) -> None:
    assert f"`{name}`" in (DOCS / "tools.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", sorted({name for name, _ in tools_page.commands()} | {f"codexdb {each}" for each in COMMANDS})
)
def test_command_is_documented(name: str) -> None:
    assert f"`{name}`" in (DOCS / "tools.md").read_text(encoding="utf-8")


def test_options_of_serve_are_those_of_its_help() -> None:
    """They are read in two places: by hand before the handshake, and by click for people."""
    helped = {name for parameter in codexdb.commands["serve"].params for name in parameter.opts}
    flags = {name for name in helped if (options := parse(["serve", name])) is not None and not options.values}
    assert flags == {"--no-worker"}
    assert set(OPTIONS) | flags == helped


def test_outcomes_of_a_message_are_documented() -> None:
    text = (DOCS / "tools.md").read_text(encoding="utf-8")
    told = {row[1].strip("`") for row in _rows(text, "### A message that finds its conversation taken")}
    assert told == {"busy", "queued", "steered"}
    assert {each.value for each in IfRunning} == {
        row[0].strip("`") for row in _rows(text, "### A message that finds its conversation taken")
    }


def _documented_kinds() -> dict[str, list[str]]:
    rows = _rows((DOCS / "tools.md").read_text(encoding="utf-8"), "## Error kinds")
    return {row[0].strip("`"): row[1:] for row in rows}


def _errors(base: type[CodexDBError] = CodexDBError) -> Iterator[type[CodexDBError]]:
    yield base
    for each in base.__subclasses__():
        yield from _errors(each)


def _text(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _text(node.body)
        yield from _text(node.orelse)


def _kinds_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=args) if name in RENDERERS and len(args) > RENDERERS[name]:
            yield from _text(args[RENDERERS[name]])
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if "kind" in _text(key):
                    yield from _text(value)
        case ast.FunctionDef(name="_kind" | "refusal"):
            for each in ast.walk(node):
                if isinstance(each, ast.Return):
                    yield from _text(each.value.elts[1] if isinstance(each.value, ast.Tuple) else each.value)
        case ast.Call(func=ast.Name(id="Ending"), args=[_, reason, *_]):
            yield from _text(reason)
        case _:
            return


def test_error_kinds_are_those_that_the_code_knows() -> None:
    in_code = {error.kind for error in _errors() if error.__module__.startswith("codexdb.")}
    for pattern in ("protocol/*.py", "worker/*.py", "store/claims.py", "store/endings.py"):
        for path in (ROOT / "codexdb").glob(pattern):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                in_code.update(_kinds_in(node))
    in_code -= {"requested", "answered", "imported"}  # why turns end that are told as `interrupted`, or as no error
    assert set(_documented_kinds()) == in_code


def test_error_kinds_are_retryable_where_the_page_says_so() -> None:
    documented = _documented_kinds()
    told = {error.kind: documented[error.kind][1] == "yes" for error in _errors() if error.kind in documented}
    assert told == {error.kind: error.retryable for error in _errors()}


# -- guarantees ------------------------------------------------------------------------------------------------------


def _promises() -> dict[str, list[str]]:
    rows = _rows((DOCS / "guarantees.md").read_text(encoding="utf-8"), "## Promises")
    return {row[0]: re.findall(r"`(tests/[^`]+)`", row[3]) for row in rows}


def test_every_promise_has_a_row() -> None:
    assert list(_promises()) == [f"P{number}" for number in range(1, 11)]


def _tests_in(path: Path) -> set[str]:
    """The tests of a module: functions, and state machines under the name that pytest finds them by."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assigned = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    return functions | {target.id for target in assigned if isinstance(target, ast.Name)}


@pytest.mark.parametrize("promise", [f"P{number}" for number in range(1, 11) if number != 8])
def test_promise_names_tests_that_exist(promise: str) -> None:
    named = _promises()[promise]
    assert named
    missing: list[str] = []
    for name in named:
        path, _, test = name.partition("::")
        if not (ROOT / path).is_file() or test not in _tests_in(ROOT / path):
            missing.append(name)
    assert not missing, f"{promise} names tests that do not exist"


# -- crash points ----------------------------------------------------------------------------------------------------


def test_every_crash_point_has_a_row_and_no_other() -> None:
    """Named in the first column."""
    rows = _rows((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "## Killed here")
    named = [name for row in rows for name in re.findall(r"`([a-z]+\.[a-z_]+)`", row[0])]
    assert sorted(named) == sorted(crash.POINTS), "each has one row, and each name is a crash point"
    assert all(len(row) == 3 and all(row) for row in rows), "each says what is on record and what follows"


# -- decisions -------------------------------------------------------------------------------------------------------

RECORDS = sorted(path for path in ADR.glob("*.md") if path.name != "README.md")


def test_index_lists_every_record() -> None:
    listed = re.findall(
        r"^\| \[\d{4}\]\((.+?)\) \| (.+?) \|$", (ADR / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0].partition(": ")[2] for path in RECORDS}
    assert dict(listed) == titles


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_has_all_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for part in ("Context", "Decision", "Consequences", "Rejected", "Not decided"):
        assert part in headings
    assert text.startswith(f"# {path.name[:4]}: ")
    assert "- \\+ " in text
    assert "- \N{MINUS SIGN} " in text


def test_every_dependency_has_a_reason_and_no_other() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ADR / "0002-dependencies.md").read_text(encoding="utf-8")
    groups: dict[str, list[str]] = {"Run time:": project["dependencies"]}
    groups |= {f"Extra `{name}`": names for name, names in project["optional-dependencies"].items() if name != "dev"}
    for heading, requirements in groups.items():
        wanted = {re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0] for requirement in requirements}
        assert {row[0] for row in _rows(text, heading)} == wanted


# -- every page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_bounds_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:codexdb|migrations|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    source = "".join(each.read_text(encoding="utf-8") for each in (ROOT / "codexdb").rglob("*.py"))
    for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text):
        assert re.search(rf"\b{name}\b", source), name

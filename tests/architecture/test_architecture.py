"""The house keeps its shape: sizes, layers, names, and what an import brings along."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "codexdb"
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTION_LINES_MAX = 70  # what fits the eye
MODULE_LINES_MAX = 400  # what fits a walk
MAY_PRINT = ("cli", "testing")  # of the package
PROGRAMS = ("agent/tools/patch/__main__.py",)  # run in processes of their own, whose stdout is a pipe to us
WORDS_WITHOUT_MEANING = frozenset({"utils", "util", "helpers", "helper", "manager", "managers", "core"})
LOADED_WHEN_USED = ("alembic", "httpx2", "rich", "click", "mcp")
WAIT_S = 60


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _run(*command: str) -> str:
    """What a program prints; it has to succeed and to write nothing else."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_fits_a_walk(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES_MAX


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_fit_the_eye(path: Path) -> None:
    long = {
        node.name: lines
        for node in _nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not long


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] not in MAY_PRINT and str(path.relative_to(PACKAGE)) not in PROGRAMS
    ],
    ids=_name,
)
def test_nothing_is_printed(path: Path) -> None:
    """stdout is the wire. Each way to it fails by itself."""
    for node in _nodes(path):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                pytest.fail(f"print in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "__stdout__"):
                pytest.fail(f"sys.stdout in line {node.lineno}")
            case ast.ImportFrom(module="sys", names=names) if any("stdout" in each.name for each in names):
                pytest.fail(f"sys.stdout in line {node.lineno}")
            case _:
                pass


def test_modules_are_named_after_what_they_own() -> None:
    found = [
        _name(path)
        for folder in (PACKAGE, ROOT / "migrations", ROOT / "tests")
        for path in folder.rglob("*")
        if (path.is_dir() or path.suffix == ".py")
        and not WORDS_WITHOUT_MEANING.isdisjoint(path.stem.lower().split("_"))
    ]
    assert not found


def test_imports_keep_their_contracts() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    assert "0 broken" in _run(str(program), "--no-cache")


def test_importing_the_package_does_nothing_else() -> None:
    loaded = "import sys; before = set(sys.modules); import codexdb; print(*sorted(set(sys.modules) - before))"
    assert _run(sys.executable, "-c", loaded).split() == ["codexdb"]


def test_the_program_is_put_together_without_what_only_some_calls_need() -> None:
    loaded = f"import sys, codexdb.app; print(*(name for name in {LOADED_WHEN_USED} if name in sys.modules))"
    assert _run(sys.executable, "-c", loaded).split() == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.stat().st_size], ids=_name)
def test_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

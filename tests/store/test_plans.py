"""No statement of the program reads a big table whole, but for those that are about all of it."""

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

import codexdb.store
from codexdb.store import revision
from codexdb.store.statement import Statement

BIG = {"sessions", "turns", "inputs", "items", "events", "tool_calls", "approvals", "model_requests"}
FEW_ROWS = {"turns_one_holds_session", "turns_queued", "turns_ready", "approvals_pending"}  # what goes on now
IN_ORDER = {"sessions_by_update", "sessions_by_cwd"}  # read as far as a LIMIT goes
ABOUT_EVERYTHING = {
    "endings._ALL_OPEN": "once, after a restore",
    "export._SESSIONS": "exports all sessions",
    "retention._ALL_ROWS": "says what there is to prune",
    "retention._FORGET_WORKERS": "a part of pruning",
}


def statements(value: object, name: str) -> Iterator[tuple[str, Statement]]:
    if isinstance(value, Statement):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from statements(each, f"{name}[{key}]")  # pyright: ignore[reportUnknownArgumentType]


def every_statement() -> dict[str, Statement]:
    """By `module.NAME`, where it is defined."""
    found: dict[str, Statement] = {}
    for module in pkgutil.iter_modules(codexdb.store.__path__):
        for name, value in vars(importlib.import_module(f"codexdb.store.{module.name}")).items():
            found.update(statements(value, f"{module.name}.{name}"))
    return found


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lines of each statement's plan. SQLite knows as little of the rows as in any database of ours: no ANALYZE."""
    path = tmp_path_factory.mktemp("plans") / "empty.sqlite3"
    revision.prepare(path)
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for name, statement in every_statement().items():
            given = [1] * statement.sql.count("?")  # what partial indexes are chosen by is a parameter, too
            found[name] = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", given)]
    return found


def test_no_statement_reads_a_big_table_whole(plans: dict[str, list[str]]) -> None:
    assert len(plans) > 150
    guilty: dict[str, list[str]] = {}
    for name, lines in plans.items():
        for line in lines:
            scan = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", line)
            if scan and scan[1] in BIG and scan[2] not in FEW_ROWS | IN_ORDER:
                guilty.setdefault(name, []).append(line)
    assert {name: lines for name, lines in guilty.items() if name not in ABOUT_EVERYTHING} == {}
    assert set(ABOUT_EVERYTHING) <= set(guilty), "these do no longer"

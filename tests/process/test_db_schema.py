"""`codexdb db schema`: what there is to ask, as documented."""

import json
from pathlib import Path

import pytest

from codexdb.store.describe import COLUMNS
from codexdb.store.views import VIEWS
from tests.process.kept import db, fill
from tests.process.talking import rows

NAMES = [view.name for view in VIEWS] + list(COLUMNS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("home"))


def test_everything_is_listed_and_each_can_be_looked_at(filled: Path) -> None:
    listed = db(filled, "schema")
    assert listed.returncode == 0
    assert [line.split()[1] for line in listed.stdout.splitlines()[: len(NAMES)]] == NAMES
    one = db(filled, "schema", "session_overview")
    assert one.stdout.startswith("view session_overview: Every session, with how it stands.\n")
    assert "FROM session_overview ORDER BY updated_at_ms DESC LIMIT 10;" in one.stdout


def test_columns_are_those_of_the_database_and_the_queries_run(filled: Path) -> None:
    told = [json.loads(line) for line in db(filled, "schema", "--json").stdout.splitlines()]
    assert [each["name"] for each in told] == NAMES
    for each in told:
        found = [name for (name,) in rows(filled, f"SELECT name FROM pragma_table_xinfo('{each['name']}')")]  # noqa: S608
        assert [column["name"] for column in each["columns"]] == found
        assert all(column["meaning"] for column in each["columns"])
        if ":session" not in each["example"]:
            assert db(filled, "sql", each["example"]).returncode == 0


def test_an_unknown_name_is_told_with_those_that_there_are(filled: Path) -> None:
    result = db(filled, "schema", "nothing")
    assert result.returncode == 1
    assert "There is no table or view nothing. There are: session_overview, " in result.stderr

"""Files before, a patch, files after or the exact failure. Failures change nothing; nothing temporary stays."""

from pathlib import Path

import cases_files
import cases_grammar
import cases_lines
import pytest
from patching import Case, check, ids

CASES = [*cases_grammar.CASES, *cases_files.CASES, *cases_lines.CASES]


def test_there_are_enough_cases_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 200
    assert len(set(ids(CASES))) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_case(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)

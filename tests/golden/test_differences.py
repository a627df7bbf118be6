"""The page for people and the table for tests name the same differences."""

import re
from pathlib import Path

from tests.golden.differences import DIFFERENCES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"


def test_the_page_has_a_row_for_every_difference_in_the_same_order() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| .+ \| .+ \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list(DIFFERENCES)

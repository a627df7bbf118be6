"""What docs/providers.md tells people to type and to write, so that the tests do that and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")

AFTER_THE_TURN = "After the turn:"


class Recipe(NamedTuple):
    """How the page has one server installed, started and used. Commands are lines for a shell."""

    name: str
    install: str
    start: str
    before_turn: tuple[str, ...]  # once it runs
    after_turn: tuple[str, ...]
    files: Mapping[str, str]


def blocks(language: str, text: str = PAGE) -> list[str]:
    """The fenced blocks of that language, in order, each without its last newline."""
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def below(heading: str) -> str:
    """From that heading to the next one of whatever level."""
    _, found, text = PAGE.partition(f"\n{heading}\n")
    assert found, f"the page has no heading {heading}"
    return re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]


def recipe(name: str) -> Recipe:
    """The section of that name."""
    text = below(f"### {name}")
    before, _, after = text.partition(AFTER_THE_TURN)
    install, start, *before_turn = blocks("sh", before)
    files = dict(re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return Recipe(name, install, start, tuple(before_turn), tuple(blocks("sh", after)), files)

"""Write the generated documentation: `python -m tests.docs.generate`.

docs/schema.md, docs/states.md and docs/invariants.md are made whole. docs/tools.md is written by hand around blocks
between the markers `<!-- made: NAME -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

from tests.docs import invariants_page, schema_page, states_page, tools_page

DOCS = Path(__file__).resolve().parents[2] / "docs"

_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def made() -> dict[Path, str]:
    """Every file with generated text → what it has to hold."""
    return {
        DOCS / "schema.md": schema_page.page(),
        DOCS / "states.md": states_page.page(),
        DOCS / "invariants.md": invariants_page.page(),
        DOCS / "tools.md": with_blocks((DOCS / "tools.md").read_text(encoding="utf-8"), tools_page.blocks()),
    }


def with_blocks(text: str, blocks: dict[str, str]) -> str:
    """`text` with every block renewed.

    Raises:
        ValueError: a block has no markers, or markers have no block.
    """
    marked = sorted(found[2] for found in _BLOCK.finditer(text))
    if marked != sorted(blocks):
        raise ValueError(f"the page has markers for {marked}, and there are blocks {sorted(blocks)}")
    return _BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n{found[4]}", text)


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")

"""The index of words has beginnings of two and three letters, so that a search for them need not gather half of it.

Answers that hold for later questions have an index, so that a turn that begins finds them without reading all others.

Landed and frozen: `tests/migration` compares this file with its recorded hash. Changes go into a new revision.
"""

from alembic import context, op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROWS_AT_ONCE = 2_000  # items between two words of progress

SEARCH = """\
CREATE VIRTUAL TABLE search USING fts5(
  text, content='searchable', content_rowid='id', columnsize=0, tokenize='unicode61 remove_diacritics 2'{0}
)"""
REMEMBERED = """\
CREATE INDEX approvals_remembered ON approvals (decision, session_id)
WHERE state = 'approved' AND decision IN ('approved_for_session', 'approved_always')"""
FILL = "INSERT INTO search (rowid, text) SELECT id, text FROM searchable WHERE id BETWEEN :first AND :last"


def upgrade() -> None:
    op.execute(REMEMBERED)
    remake(SEARCH.format(",\n  prefix='2 3'"))


def downgrade() -> None:
    op.execute("DROP INDEX approvals_remembered")
    remake(SEARCH.format(""))


def remake(search: str) -> None:
    """The index anew, with the items that are there, the oldest first."""
    op.execute("DROP TABLE search")
    op.execute(search)
    progress = context.config.attributes.get("progress")
    last = op.get_bind().execute(text("SELECT coalesce(max(id), 0) FROM items")).scalar_one()
    for first in range(1, last + 1, ROWS_AT_ONCE):
        op.get_bind().execute(text(FILL), {"first": first, "last": first + ROWS_AT_ONCE - 1})
        if progress is not None:
            progress(min(first + ROWS_AT_ONCE - 1, last), last)

"""docs/invariants.md, made from the queries of `codexdb db check`."""

from codexdb.store.invariants import INVARIANTS, TEXT_INDEX, WORDS, Invariant

_HEAD = """\
# What must hold

Made from `codexdb/store/invariants.py` by `python -m tests.docs.generate`; do not edit.

`codexdb db check` compares the schema with what codexdb makes, looks at the file (`PRAGMA integrity_check`) and at
the foreign keys (`PRAGMA foreign_key_check`), and runs the queries below. Each finds rows that must not be: it returns
none on a sound database, at any instant, also while servers run. They can be run by hand, with `codexdb db sql` or
any SQLite.

Items are not in the list of references: those of a fork keep the `turn_id` of the session that they were copied from,
which may have been deleted since.
"""
_TEXT_INDEX = f"""\
The next one needs a table of words that SQLite makes from the index, in its temporary schema and not in the file. Run
this first, on the same connection: `{WORDS}`.
"""


def page() -> str:
    """The whole text of docs/invariants.md."""
    return "\n".join([_HEAD, *map(_section, INVARIANTS), _TEXT_INDEX, _section(TEXT_INDEX)])


def _section(each: Invariant) -> str:
    title = each.name[0].upper() + each.name[1:]
    return f"## {title}\n\n{each.holds}\n\n```sql\n{each.query};\n```\n\nOtherwise: {each.advice}\n"

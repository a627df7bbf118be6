"""The text index: what people said, what models answered, and the calls they made, by words (SQLite's FTS5).

It holds no text of its own: the view `searchable` computes that from the items, and triggers keep the two together.
Beginnings of two and three letters are words of their own in it: else `co*` would gather a good part of all texts.
"""

SEARCHED_CHARS = 65_536  # of one message or call: what lies behind is for reading, not for finding

_STRINGS = "(SELECT group_concat(part.atom, ' ') FROM json_tree({0}) AS part WHERE part.type = 'text')"
_ARGUMENTS = "json_extract(payload, '$.arguments')"
_CALL = (
    f"CASE WHEN json_valid({_ARGUMENTS}) THEN coalesce("
    f"(SELECT group_concat(word.value, ' ') FROM json_each({_ARGUMENTS}, '$.command') AS word), "
    f"{_STRINGS.format(_ARGUMENTS)}) ELSE {_ARGUMENTS} END"
)
_WORDS = (
    "(SELECT group_concat(json_extract(part.value, '$.text'), char(10)) "
    "FROM json_each(items.payload, '$.content') AS part)"
)
SEARCHABLE = f"""\
CREATE VIEW searchable AS
SELECT
  id,
  substr(
    CASE type WHEN 'message' THEN {_WORDS}
    ELSE {_CALL} END,
    1, {SEARCHED_CHARS}
  ) AS text
FROM items
WHERE turn_id IS NOT NULL AND ((type = 'message' AND role IN ('user', 'assistant')) OR type = 'function_call')"""
SEARCH = """\
CREATE VIRTUAL TABLE search USING fts5(
  text, content='searchable', content_rowid='id', columnsize=0, tokenize='unicode61 remove_diacritics 2',
  prefix='2 3'
)"""
SHADOWS = ("search_config", "search_data", "search_idx")
"""Tables that SQLite itself makes for the index."""


def _searched(row: str) -> str:
    return (
        f"{row}.turn_id IS NOT NULL AND (({row}.type = 'message' AND {row}.role IN ('user', 'assistant')) "
        f"OR {row}.type = 'function_call')"
    )


SEARCH_TRIGGERS = {
    "items_found": f"""\
CREATE TRIGGER items_found AFTER INSERT ON items
WHEN {_searched("NEW")}
BEGIN
  INSERT INTO search (rowid, text) SELECT id, text FROM searchable WHERE id = NEW.id;
END""",
    "items_lost": f"""\
CREATE TRIGGER items_lost BEFORE DELETE ON items
WHEN {_searched("OLD")}
BEGIN
  INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM searchable WHERE id = OLD.id;
END""",
}

EXAMPLE = """\
SELECT t.session, t.turn_number, t.kind, t.created_at, snippet(search, 0, '[', ']', '…', 12) AS found
FROM search JOIN transcript AS t ON t.id = search.rowid
WHERE search MATCH :words ORDER BY search.rowid DESC LIMIT 20;"""
"""A query that people ask."""


def create_text_index() -> list[str]:
    """DDL of all of it, in an order in which it can be run."""
    return [SEARCHABLE, SEARCH, *SEARCH_TRIGGERS.values()]

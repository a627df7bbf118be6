"""Finding sessions by what was said in them, newest first. The index is described in `text_index`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import text

from codexdb.domain.errors import InvalidArgumentsError
from codexdb.domain.limits import SEARCH_HITS_MAX, SEARCH_WORDS_MAX
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement

OPEN, CLOSE = "\x02", "\x03"
"""What stands around a found word in a snippet: characters that no text of ours shows."""

_SNIPPET_WORDS = 16
# Of UTF-8: one letter of a script of few letters begins very many words, and the index gathers them for seconds.
_BEGINNING_BYTES_MIN = 3
_LETTERS = re.compile(r"[^\W_]+")  # what the index takes for a word
_WORD = re.compile(r'"([^"]*)"?(\*?)|(\S+)')

# A search begins with the words each time it is begun: for hits that were chosen it is run once more over all of them
# (CROSS JOIN keeps that order), and not once for each.
_HIT = f"""\
SELECT search.rowid, s.public_id, s.title, t.public_id, t.number, i.seq,
  CASE WHEN i.type = 'message' THEN i.role ELSE 'call' END,
  snippet(search, 0, '{OPEN}', '{CLOSE}', '…', {_SNIPPET_WORDS}), i.created_at_ms"""
_OF = """\
JOIN items AS i ON i.id = search.rowid JOIN sessions AS s ON s.id = i.session_id
LEFT JOIN turns AS t ON t.id = i.turn_id
WHERE search MATCH :words"""
_NEWEST = Statement(
    text(f"{_HIT} FROM search {_OF} AND search.rowid < :before ORDER BY search.rowid DESC LIMIT :limit")
)
# BM25 with all words weighing the same. The one of FTS5 first counts how often each word comes in the whole index.
_BEST = Statement(
    text(f"""\
WITH candidates AS MATERIALIZED (
  SELECT rowid AS key, CAST(length(text) AS REAL) AS chars,
    length(highlight(search, 0, '{OPEN}', '')) - length(text) AS times
  FROM search WHERE search MATCH :words ORDER BY rowid DESC LIMIT :hits
), best AS MATERIALIZED (
  SELECT key FROM candidates
  ORDER BY times / (times + 0.3 + 0.9 * chars / (SELECT avg(chars) FROM candidates)) DESC, key DESC LIMIT :limit
)
{_HIT} FROM search CROSS JOIN best ON best.key = search.rowid {_OF}
AND search.rowid >= (SELECT min(key) FROM best) ORDER BY search.rowid DESC""")  # noqa: S608
)
_SESSIONS = Statement(
    text(f"""\
WITH hits AS MATERIALIZED (
  SELECT search.rowid AS key, i.session_id AS session_id
  FROM search JOIN items AS i ON i.id = search.rowid
  WHERE search MATCH :words ORDER BY search.rowid DESC LIMIT :hits
), found AS MATERIALIZED (
  SELECT hits.session_id, max(hits.key) AS key FROM hits JOIN sessions AS s ON s.id = hits.session_id
  WHERE (s.archived_at_ms IS NULL OR :archived = 1) AND (:cwd IS NULL OR s.cwd = :cwd)
  GROUP BY hits.session_id HAVING max(hits.key) < :before ORDER BY key DESC LIMIT :limit
)
SELECT s.public_id, found.key, snippet(search, 0, '', '', '…', {_SNIPPET_WORDS})
FROM search CROSS JOIN found ON found.key = search.rowid JOIN sessions AS s ON s.id = found.session_id
WHERE search MATCH :words AND search.rowid BETWEEN (SELECT min(key) FROM found) AND (SELECT max(key) FROM found)
ORDER BY search.rowid DESC""")  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message or call in which the words were found. `key` is a cursor: older hits have smaller ones."""

    key: int
    session_id: str
    title: str | None
    turn_id: str | None
    turn_number: int | None
    seq: int
    kind: str  # user, assistant, call
    snippet: str  # found words between OPEN and CLOSE
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session with its newest hit."""

    session_id: str
    key: int
    snippet: str


async def hits(readers: Reads, words: str, *, before: int | None, limit: int) -> Sequence[Hit]:
    """What holds all the words, newest first, older than the cursor.

    Raises:
        InvalidArgumentsError: there is nothing to search for in `words`.
    """
    rows = await readers.all(_NEWEST, {"words": match(words), "before": before or 2**62, "limit": limit})
    return [Hit(*row) for row in rows]  # pyright: ignore[reportArgumentType] - STRICT columns, in order


async def best_hits(readers: Reads, words: str, *, limit: int) -> Sequence[Hit]:
    """The hits that fit best among the newest `SEARCH_HITS_MAX`, newest first; raises as `hits` does."""
    rows = await readers.all(_BEST, {"words": match(words), "hits": SEARCH_HITS_MAX, "limit": limit})
    return [Hit(*row) for row in rows]  # pyright: ignore[reportArgumentType]


async def sessions(
    readers: Reads, words: str, *, before: int | None, limit: int, archived: bool, cwd: str | None
) -> Sequence[FoundSession]:
    """Sessions among the newest `SEARCH_HITS_MAX` hits, the one with the newest first; raises as `hits` does."""
    rows = await readers.all(
        _SESSIONS,
        {
            "words": match(words),
            "hits": SEARCH_HITS_MAX,
            "before": before or 2**62,
            "limit": limit,
            "archived": int(archived),
            "cwd": cwd,
        },
    )
    return [FoundSession(*row) for row in cast("list[tuple[str, int, str]]", rows)]


def match(words: str) -> str:
    """The words as an expression of FTS5: all of them, each as it stands, `"several words"` in that order, `begin*` for
    whatever begins so. Nothing else has a meaning, so no text is a syntax error.

    Raises:
        InvalidArgumentsError: no letter or digit is in it, there are too many words, or too many begin so.
    """
    found: list[str] = []
    for phrase, star, word in _WORD.findall(words):
        plain = phrase or word
        if any(character.isalnum() for character in plain):
            begins = star or (word.endswith("*") and "*") or ""
            last = _LETTERS.findall(plain)[-1]
            if begins and len(last) == 1 and len(last.encode()) < _BEGINNING_BYTES_MIN:
                raise InvalidArgumentsError(f"search: too many words begin so: {plain.rstrip('*')}*; give more letters")
            found.append('"' + plain.replace('"', "").replace("\0", "") + '"' + begins)
    if not found:
        raise InvalidArgumentsError("search: there is no word to search for")
    if len(found) > SEARCH_WORDS_MAX:
        raise InvalidArgumentsError(f"search: more than {SEARCH_WORDS_MAX} words")
    return " ".join(found)

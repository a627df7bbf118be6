"""Finding what was said and called, in all sessions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codexdb.cli import screen, wording
from codexdb.cli.opening import run_with_store
from codexdb.domain.json import JsonObject, encode
from codexdb.store.database import Store
from codexdb.store.search import CLOSE, OPEN, Hit, best_hits, hits

if TYPE_CHECKING:
    from rich.text import Text


def search(db: str | None, words: str, *, best: bool, before: int | None, limit: int, as_json: bool) -> int:
    """Print the hits, newest first; returns the exit code: 1 where there is none, as `grep` does."""

    async def read(store: Store) -> Sequence[Hit]:
        if best:
            return await best_hits(store.readers, words, limit=limit)
        return await hits(store.readers, words, before=before, limit=limit + 1)

    found = run_with_store(db, read)
    shown = found[:limit]
    if as_json:
        screen.write("".join(f"{encode(_told(hit))}\n" for hit in shown))
    elif not shown:
        screen.write("Nothing was found.\n", err=True)
    else:
        _print(shown)
    if len(found) > limit and not as_json:
        screen.write(f"There are more: --before {shown[-1].key}\n", err=True)
    return 0 if shown else 1


def _told(hit: Hit) -> JsonObject:
    return {
        "session_id": hit.session_id,
        "turn_id": hit.turn_id,
        "turn": hit.turn_number,
        "seq": hit.seq,
        "kind": hit.kind,
        "snippet": _plain(hit.snippet),
        "created_at_ms": hit.created_at_ms,
        "cursor": hit.key,
    }


def _print(found: Sequence[Hit]) -> None:
    console = screen.console()
    if not console.is_terminal:
        for hit in found:
            line = (hit.session_id, hit.turn_number, hit.kind, wording.moment(hit.created_at_ms), _plain(hit.snippet))
            screen.write(f"{screen.harmless(screen.tab_separated(line))}\n")
        return
    from rich.text import Text

    for hit in found:
        turn = f"turn {hit.turn_number}" if hit.turn_number is not None else ""
        head = (hit.session_id, turn, hit.kind, f"{wording.moment(hit.created_at_ms)} UTC")
        console.print(Text("  ".join(filter(None, head)), style="dim"), soft_wrap=True)
        console.print(_marked(hit.snippet))


def _plain(snippet: str) -> str:
    return snippet.replace(OPEN, "").replace(CLOSE, "")


def _marked(snippet: str) -> "Text":
    """The snippet in one line, with what was found in bold."""
    from rich.text import Text

    text = Text("  ")
    for number, piece in enumerate(" ".join(snippet.split()).split(OPEN)):
        found, _, rest = piece.partition(CLOSE) if number else ("", "", piece)
        text.append(screen.harmless(found), style="bold yellow").append(screen.harmless(rest))
    return text

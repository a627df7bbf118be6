"""Sessions as people name them: by an id, or by as much of its beginning as no other has."""

from codexdb.domain.errors import InvalidArgumentsError, SessionNotFoundError
from codexdb.domain.ids import parse_id
from codexdb.store.readers import Readers
from codexdb.store.transcripts import ids_with_prefix

CANDIDATES_SHOWN = 5


async def find_id(readers: Readers, text: str) -> str:
    """The id of the session that is meant.

    Raises:
        SessionNotFoundError: there is none.
        InvalidArgumentsError: there are several.
    """
    try:
        prefix = parse_id(text)
    except ValueError:
        prefix = text.strip().lower()
    found = await ids_with_prefix(readers, prefix, CANDIDATES_SHOWN + 1) if prefix else []
    if not found:
        raise SessionNotFoundError(f"There is no session {text} in this database; see `codexdb sessions list --all`.")
    if len(found) > 1:
        shown = "".join(f"\n  {each}" for each in found[:CANDIDATES_SHOWN])
        more = "\n  …" if len(found) > CANDIDATES_SHOWN else ""
        raise InvalidArgumentsError(f"Several sessions begin with {text}:{shown}{more}")
    return found[0]

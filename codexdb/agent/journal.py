"""What the turn loop writes to. The worker implements it on rows; the agent never sees them."""

from collections.abc import Sequence
from typing import Protocol

from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject
from codexdb.domain.record import Entry


class Journal(Protocol):
    """The durable record of one attempt at a turn."""

    def append(self, entry: Entry) -> None:
        """Queue an entry. Entries are committed in the order of these calls; returns before the commit."""
        ...

    async def settle(self) -> None:
        """Return once everything appended so far is committed. Call it before any side effect.

        Raises:
            FenceLostError: the turn is no longer ours. Nothing of the lost entries was written; stop at once.
            StoreFailedError: the disk refused.
        """
        ...

    async def steered(self) -> Sequence[Item]:
        """Messages that came in for this turn and are on record from now on; each is returned once.

        Raises:
            FenceLostError: as `settle`.
        """
        ...

    def delta(self, item: int, msg: JsonObject) -> None:
        """Show a piece of unfinished item number `item` (counted from 0 within the attempt). May be lost."""
        ...

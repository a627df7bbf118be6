"""What a write operation works with: the connection, and what is to be told once it is committed."""

import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from codexdb.domain.event import ApprovalsChanged, CommittedEvent, TurnSuspended
from codexdb.domain.worker import Claim, InterruptRequest, WorkWaiting
from codexdb.store.statement import Row, Statement

Announcement = CommittedEvent | TurnSuspended | ApprovalsChanged | Claim | InterruptRequest | WorkWaiting


@dataclass(slots=True)
class Attempt:
    """A part of a transaction. Set `undone`, and it is taken back at its end."""

    undone: bool = False


class Transaction:
    """One operation inside a commit that it may share with others.

    An operation is a function of a `Transaction` and its arguments alone: times and ids are arguments, so that it can
    be rolled back and run again with the same effect. It raises only where something is truly wrong; expected
    refusals are return values.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.announcements: list[Announcement] = []

    def all(self, statement: Statement, **parameters: object) -> list[Row]:
        return statement.all(self._connection, parameters)

    def one(self, statement: Statement, **parameters: object) -> Row | None:
        """The only row, or None."""
        rows = statement.all(self._connection, parameters)
        return rows[0] if rows else None

    def each(self, statement: Statement, **parameters: object) -> Iterator[Row]:
        """Row by row. Read them to the end, and change nothing of them meanwhile."""
        yield from cast("Iterator[Row]", self._connection.execute(statement.sql, statement.bind(parameters)))

    @contextmanager
    def savepoint(self) -> Generator["Attempt"]:
        """What is done within stands or falls together: an exception takes it back, and goes on upward."""
        announced = len(self.announcements)
        attempt = Attempt()
        self._connection.execute("SAVEPOINT attempt")
        try:
            yield attempt
        except BaseException:
            attempt.undone = True
            raise
        finally:
            if attempt.undone:
                del self.announcements[announced:]
            if self._connection.in_transaction:  # a full disk has SQLite take all of it back
                if attempt.undone:
                    self._connection.execute("ROLLBACK TO attempt")
                self._connection.execute("RELEASE attempt")

    def run(self, statement: Statement, **parameters: object) -> int:
        """Execute and return the number of changed rows."""
        return self._connection.execute(statement.sql, statement.bind(parameters)).rowcount

    def insert(self, statement: Statement, **parameters: object) -> int:
        """Execute an INSERT and return the new integer key."""
        key = self._connection.execute(statement.sql, statement.bind(parameters)).lastrowid
        if key is None:
            raise sqlite3.InternalError("an INSERT gave no key")
        return key

    def many(self, statement: Statement, rows: Iterable[Mapping[str, object]]) -> None:
        statement.many(self._connection, rows)

    def announce(self, *announcements: Announcement) -> None:
        """Tell these to the process's subscribers after the commit, and only then."""
        self.announcements.extend(announcements)

"""What a write operation works with: the connection, and what is to be told once it is committed."""

import sqlite3
from collections.abc import Iterable, Mapping

from codexdb.domain.event import ApprovalsChanged, CommittedEvent, TurnSuspended
from codexdb.domain.worker import Claim, InterruptRequest, WorkWaiting
from codexdb.store.statement import Row, Statement

Announcement = CommittedEvent | TurnSuspended | ApprovalsChanged | Claim | InterruptRequest | WorkWaiting


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

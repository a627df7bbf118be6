"""Core constructs compiled once and executed on the DBAPI connection.

Executing a construct through SQLAlchemy costs ten times the statement itself (see docs/adr/0003-store.md). SQLite's
spelling is decided here alone.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from functools import cached_property

from sqlalchemy import Insert, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

_DIALECT = sqlite.dialect(paramstyle="qmark")

Row = tuple[object, ...]


class Statement:
    """A construct with named parameters; compiled at its first use, then never again."""

    def __init__(self, construct: Executable) -> None:
        self._construct = construct

    @cached_property
    def _compiled(self) -> tuple[str, tuple[str, ...], dict[str, object]]:
        assert isinstance(self._construct, ClauseElement)  # noqa: S101 - for the type checker: every construct is one
        compiled = self._construct.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - for the type checker
        order = tuple(compiled.positiontup or ())
        literals: dict[str, object] = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        return str(compiled), order, literals

    @property
    def sql(self) -> str:
        return self._compiled[0]

    def bind(self, parameters: Mapping[str, object]) -> Row:
        """The positional values for `parameters`.

        Raises:
            KeyError: a parameter has no value.
        """
        _, order, literals = self._compiled
        return tuple([parameters[name] if name in parameters else literals[name] for name in order])

    def all(self, connection: sqlite3.Connection, parameters: Mapping[str, object]) -> list[Row]:
        """Every row. The cursor is exhausted: an open RETURNING cursor would keep the transaction open."""
        return connection.execute(self.sql, self.bind(parameters)).fetchall()

    def many(self, connection: sqlite3.Connection, rows: Iterable[Mapping[str, object]]) -> None:
        connection.executemany(self.sql, map(self.bind, rows))


def insert_into(table: Table, *columns: str) -> Insert:
    """An INSERT of these columns, each bound to a parameter of its own name."""
    return insert(table).values({column: bindparam(column) for column in columns})

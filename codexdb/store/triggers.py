"""Triggers that refuse illegal state changes, whoever tries them, derived from `domain.transition`."""

from codexdb.domain.transition import TABLES, TransitionTable


def trigger_name(table: TransitionTable) -> str:
    return f"{table.table}_legal_moves"


def create_trigger(table: TransitionTable) -> str:
    """DDL of the trigger that lets only the table's own moves through."""
    pairs = "\n     OR ".join(f"(OLD.state = '{move.source}' AND NEW.state = '{move.target}')" for move in table.moves)
    return (
        f"CREATE TRIGGER {trigger_name(table)} BEFORE UPDATE OF state ON {table.table}\n"
        f"WHEN OLD.state <> NEW.state AND NOT (\n        {pairs}\n)\n"
        f"BEGIN\n  SELECT RAISE(ABORT, '{table.table}: illegal change of state');\nEND"
    )


def create_triggers() -> list[str]:
    return [create_trigger(table) for table in TABLES]

"""The sessions table: making one, and reading back what it was made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, select, update

from codexdb.config.files import merged
from codexdb.domain.event import CommittedEvent, Event
from codexdb.domain.item import Item, environment_context
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.domain.record import NewItem
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings
from codexdb.store.readers import Readers
from codexdb.store.record import insert_events, insert_items
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import sessions
from codexdb.store.transaction import Transaction

SETTINGS_COLUMNS = (
    "model",
    "model_provider",
    "cwd",
    "approval_policy",
    "sandbox_mode",
)  # of SessionSettings, columns of their own
_EXTRA = (
    "network_access",
    "include_plan_tool",
    "profile",
    "base_instructions",
    "developer_instructions",
    "compact_prompt",
    "overrides",
    "withheld",
)  # of SessionSettings, inside the `settings` column
_MERGED = ("overrides", "withheld")  # to which a message adds, instead of replacing them
_REPLACED = tuple(name for name in _EXTRA if name not in _MERGED)

_INSERT = Statement(
    insert_into(
        sessions,
        "public_id",
        "origin",
        "title",
        *SETTINGS_COLUMNS,
        "settings",
        "next_seq",
        "next_item_seq",
        "created_at_ms",
        "updated_at_ms",
    )
)
_CHANGE_SETTINGS = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("key"))
    .values({**{name: bindparam(f"new_{name}") for name in SETTINGS_COLUMNS}, "settings": bindparam("new_settings")})
)
_SETTINGS = Statement(
    select(*(sessions.c[name] for name in SETTINGS_COLUMNS), sessions.c.settings).where(
        sessions.c.id == bindparam("key")
    )
)


@dataclass(frozen=True, slots=True)
class NewSession:
    """Everything that a session begins with."""

    session_id: str
    origin: str
    settings: SessionSettings
    context: Sequence[Item]  # what the model is told before the first message
    events: Sequence[Event]
    now_ms: int
    title: str | None = None


def insert_session(transaction: Transaction, new: NewSession) -> int:
    """Write the session with its context items and first events; returns its integer key."""
    settings = {name: getattr(new.settings, name) for name in _EXTRA}
    key = transaction.insert(
        _INSERT,
        public_id=new.session_id,
        origin=new.origin,
        title=new.title,
        **{name: str(getattr(new.settings, name)) for name in SETTINGS_COLUMNS},
        settings=encode({name: value for name, value in settings.items() if value}),
        next_seq=1 + len(new.events),
        next_item_seq=1 + len(new.context),
        created_at_ms=new.now_ms,
        updated_at_ms=new.now_ms,
    )
    insert_items(transaction, key, None, 1, [NewItem(item) for item in new.context], new.now_ms)
    insert_events(transaction, key, None, 1, new.events, new.now_ms)
    transaction.announce(
        *(
            CommittedEvent(new.session_id, seq, None, "0", event.type, encode(event.msg))
            for seq, event in enumerate(new.events, 1)
        )
    )
    return key


def change_settings(transaction: Transaction, key: int, changes: JsonObject) -> list[Item]:
    """Write what a message changes of its session's settings. Returns what the model is to be told of it: nothing, or a
    new environment context.
    """
    row = transaction.all(_SETTINGS, key=key)[0]
    columns: JsonObject = dict(zip(SETTINGS_COLUMNS, row, strict=False))
    extra = decode_object(cast("str", row[-1]))
    before = _environment(columns, extra)
    columns |= {name: str(value) for name, value in changes.items() if name in SETTINGS_COLUMNS}
    extra |= _merged(extra, changes) | {name: changes[name] for name in _REPLACED if name in changes}
    transaction.run(
        _CHANGE_SETTINGS,
        key=key,
        new_settings=encode({name: value for name, value in extra.items() if value}),
        **{f"new_{name}": value for name, value in columns.items()},
    )
    after = _environment(columns, extra)
    return [] if after == before else [after]


def _merged(settings: JsonObject, added: JsonObject) -> JsonObject:
    """Overrides, and the names of those that are withheld, with a message's own. One may replace the other."""
    layers = [
        {**cast("JsonObject", each.get("overrides", {})), **dict.fromkeys(cast("list[str]", each.get("withheld", [])))}
        for each in (settings, added)
    ]
    secret = {name for each in (settings, added) for name in cast("list[str]", each.get("withheld", []))}
    secret -= cast("JsonObject", added.get("overrides", {})).keys()
    both = merged(*layers)
    return {
        "overrides": {name: value for name, value in both.items() if name not in secret},
        "withheld": [name for name in both if name in secret],
    }


def environment_of(transaction: Transaction, key: int) -> Item:
    """The environment context that tells a session's present settings."""
    row = transaction.all(_SETTINGS, key=key)[0]
    return _environment(dict(zip(SETTINGS_COLUMNS, row, strict=False)), decode_object(cast("str", row[-1])))


def _environment(columns: Mapping[str, object], extra: JsonObject) -> Item:
    sandbox = str(columns["sandbox_mode"])
    return environment_context(
        str(columns["cwd"]),
        str(columns["approval_policy"]),
        sandbox,
        network_access=bool(extra.get("network_access")) or sandbox == SandboxMode.DANGER_FULL_ACCESS,
    )


async def read_settings(readers: Readers, key: int) -> SessionSettings:
    """The settings of an existing session."""
    row = (await readers.all(_SETTINGS, {"key": key}))[0]
    columns: dict[str, object] = dict(zip(SETTINGS_COLUMNS, row, strict=False))
    return settings_from(columns, decode_object(cast("str", row[-1])))


def settings_from(columns: Mapping[str, object], extra: JsonObject) -> SessionSettings:
    """Rebuild what `insert_session` took apart."""
    withheld = cast("list[str]", extra.pop("withheld", []))
    return SessionSettings(
        model=str(columns["model"]),
        model_provider=str(columns["model_provider"]),
        cwd=str(columns["cwd"]),
        approval_policy=ApprovalPolicy(str(columns["approval_policy"])),
        sandbox_mode=SandboxMode(str(columns["sandbox_mode"])),
        withheld=tuple(withheld),
        **extra,  # pyright: ignore[reportArgumentType] - written by insert_session
    )

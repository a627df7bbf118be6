"""What the tools of one connection work with."""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import anyio

from codexdb.config.source import ConfigSource
from codexdb.domain.clock import Clock
from codexdb.protocol.connection import Connection
from codexdb.protocol.follower import Followers
from codexdb.protocol.origins import Origins
from codexdb.service.sessions import SessionService

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """Await something that a cancellation must not tear: a message is accepted, or it is not."""
    with anyio.CancelScope(shield=True):
        return await work
    raise AssertionError("a shielded scope does not swallow anything")


class OnCancel(StrEnum):
    """What a client's cancellation of a waiting call does to its turn."""

    AUTO = "auto"  # a time-out detaches, anything else interrupts
    INTERRUPT = "interrupt"
    DETACH = "detach"


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Handed to every tool."""

    service: SessionService
    config: ConfigSource
    clock: Clock
    connection: Connection
    followers: Followers
    origins: Origins
    on_cancel: OnCancel

    @property
    def can_ask(self) -> bool:
        """Whether the person behind this connection can be asked what the agent may do."""
        return self.followers.asker.can_ask

"""The user's `notify` program: run after a completed turn, told what was asked and answered, and left to itself."""

import asyncio
import logging
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from codexdb.domain.item import texts
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.domain.worker import Claim
from codexdb.store import pages
from codexdb.store.sessions import read_settings
from codexdb.worker.hands import command_environment
from codexdb.worker.turn import TurnContext

NOTIFY_PROCESSES_MAX = 4  # at a time; a program that never ends must not pile up
NOTIFY_START_MS = 500  # a server that goes down starts the last one within that; its exit has 1.5 s in all
NOTIFICATION_BYTES_MAX = 120 * 1024  # Linux takes 128 KiB in one argument

_logger = logging.getLogger(__name__)


class Notifier:
    """Starts the programs of one process, and reaps them."""

    def __init__(self, context: TurnContext) -> None:
        self._context = context
        self._free = threading.BoundedSemaphore(NOTIFY_PROCESSES_MAX)

    async def completed(self, claim: Claim, last_message: str | None) -> None:
        """To be called by whoever committed the turn's end. Returns once the program was started, or was not: whatever
        is amiss is logged, and is no matter of the turn.
        """
        try:
            with anyio.move_on_after(NOTIFY_START_MS / 1000):
                await self._notify(claim, last_message)
        except Exception as error:  # noqa: BLE001 - the turn has ended, whatever it is
            _logger.warning("nobody was notified of turn %s: %s", claim.turn_id, error)

    async def _notify(self, claim: Claim, last_message: str | None) -> None:
        readers = self._context.store.readers
        settings = await read_settings(readers, claim.fence.session_key)
        resolved = self._context.reopen(settings, claim.session_id)
        if not resolved.notify:
            return
        messages = await pages.said_in(readers, claim.fence.session_key, claim.fence.turn_key)
        said = ["\n".join(texts(decode_object(message))) for message in messages]
        told = notification(claim.turn_id, list(filter(None, said)), last_message)
        # Bytes, since the locale of a server need not be UTF-8.
        await self._start([*resolved.notify, told.encode()], command_environment(resolved))

    async def _start(self, argv: Sequence[str | bytes], environment: Mapping[str, str]) -> None:
        """Returns once it runs or cannot be run."""
        if not self._free.acquire(blocking=False):
            _logger.warning("nobody was notified of a turn: %s notify programs still run", NOTIFY_PROCESSES_MAX)
            return
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is gone, and nobody waits
                loop.call_soon_threadsafe(started.set)

        # A daemon: a program that still runs must not keep the server from going.
        thread = threading.Thread(target=self._run, args=(argv, environment, tell), name="notify", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._free.release()
            raise
        await started.wait()

    def _run(self, argv: Sequence[str | bytes], environment: Mapping[str, str], started: Callable[[], None]) -> None:
        """On a thread of its own, from the spawn until the program has ended and is reaped."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own program
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            started()
            if code := process.wait():
                _logger.warning("the notify program ended with code %s", code)
        except OSError as error:
            _logger.warning("the notify program cannot be run: %s", error.strerror)  # its name is a setting's value
        except ValueError:
            _logger.warning("the notify program cannot be run: an argument cannot be passed on")
        finally:
            self._free.release()
            started()


def notification(turn_id: str, said: Sequence[str], last_message: str | None) -> str:
    """What the program is told, as JSON that fits into one argument; texts are shortened where it would not."""
    chars = NOTIFICATION_BYTES_MAX
    while True:
        told: JsonObject = {
            "type": "agent-turn-complete",
            "turn-id": turn_id,
            "input-messages": [_shortened(text, chars) for text in said],
            "last-assistant-message": None if last_message is None else _shortened(last_message, chars),
        }
        text = encode(told)
        if len(text.encode()) <= NOTIFICATION_BYTES_MAX:
            return text
        if chars == 0:
            said = said[: len(said) // 2]
        chars //= 2


def _shortened(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}…"

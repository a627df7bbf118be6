"""Who works on turns, and the right to do so."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for one attempt at a turn. Every such write states it, and fails where it no longer holds."""

    session_key: int
    turn_key: int
    attempt: int
    worker_key: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A turn that this process's worker has taken."""

    fence: Fence
    session_id: str
    turn_id: str
    submission_id: str


@dataclass(frozen=True, slots=True)
class InterruptRequest:
    """Somebody asked for this turn to end."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class WorkWaiting:
    """There may be a turn that waits for a worker."""


@dataclass(frozen=True, slots=True)
class RescuePolicy:
    """What becomes of the turns of a dead worker."""

    resume: bool  # False: they are interrupted
    age_ms_max: int  # of the last event; an older turn is interrupted, so that nothing goes on unattended
    crashes_max: int


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A process, in terms that survive it: enough to tell later whether it is still that process."""

    public_id: str
    pid: int
    pid_started_at: str
    boot_id: str
    pid_namespace: str
    uid: int
    codex_home: str
    version: str

"""Places at which a test can kill the process, by name. In a normal process nothing listens, and passing one is free.

`codexdb.testing.crashing` listens and kills; ARCHITECTURE.md says for each what is on record and what recovers it.
"""

from collections.abc import Callable

POINTS = (
    "accept.before",  # the message is checked, nothing is written
    "accept.committed",  # it is on the disk, and nobody has been told
    "commit.before",  # everything of a batch is executed, nothing is on the disk
    "commit.after",  # it is on the disk, and no caller has been told
    "request.before",  # the model is about to be asked
    "stream.first_event",  # it has begun to answer
    "item.taken",  # a complete item is queued to be committed
    "response.ended",  # the answer was read to its end, and its calls have run
    "compaction.before",  # the model is about to be asked for a summary
    "compaction.committed",  # the summary is on the disk, and the model has not been asked to go on from it
    "call.intended",  # a call's intent is on the disk, its command not started
    "call.spawned",  # its command runs
    "call.ran",  # its command has ended, which is on record nowhere
    "call.recorded",  # the outcome is queued to be committed
    "patch.staged",  # the new files lie beside their places, nothing is changed
    "patch.replaced",  # the first file is changed, the others are not
    "approval.asked",  # a person is to be asked, and the turn still runs
    "approval.waiting",  # it waits, and no worker has it
    "approval.decided",  # the answer is on the disk, and nobody has been told
    "turn.ending",  # the last word was said
    "turn.ended",  # the turn's end is on the disk
    "rescue.found",  # a dead worker was found, its turns are still its own
    "rescue.taken",  # they wait for a worker
    "claim.taken",  # a waiting turn is ours, and nothing was done for it
    "suspend.before",  # the process goes down in order; a turn's command is dead, its row still says running
)

hook: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Pass a place by name."""
    if hook is not None:
        hook(name)

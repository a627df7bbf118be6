"""The file that an export is written to."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from codexdb.store.backup import refuse_own


@contextmanager
def written(output: Path, database: Path) -> Generator[IO[str]]:
    """A file that takes its name, and the place of an earlier one, when it is whole; it is its owner's. A device or a
    pipe keeps its place, and is written to as it is.

    Raises:
        StoreRefusedError: it is one of the database's own files, which would be lost.
        OSError: it cannot be written.
    """
    refuse_own(database, output)
    if output.exists() and not output.is_file():
        with output.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)  # with mode 0600
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            _settle(file)
        partial.replace(output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _settle(file: IO[str]) -> None:
    """Put what was written on the disk: an export may be all that is left of a session."""
    file.flush()
    os.fsync(file.fileno())

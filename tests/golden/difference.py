"""One place where we do not do what the original does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """`why` is for the user who asks; the tests that rely on an entry name it by `differs`."""

    id: str
    original: str
    ours: str
    why: str

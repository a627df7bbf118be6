"""Public identifiers: time-ordered UUIDs (version 7, RFC 9562) as lower-case text."""

import hashlib
import os
import re
import time

_HEX = re.compile(r"[0-9a-fA-F]")


def new_id() -> str:
    """A fresh UUIDv7: 48 bits of Unix milliseconds, then 74 random bits.

    `uuid.uuid7` exists only from Python 3.14 on, and the `uuid` module costs start-up time.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return _canonical(f"{value:032x}")


def derived_id(at_ms: int, *names: str) -> str:
    """The one UUIDv7 of these names and this time: whoever derives it again gets the same."""
    digest = hashlib.sha256("\0".join(names).encode(errors="surrogatepass")).digest()
    value = ((at_ms & (1 << 48) - 1) << 80) | int.from_bytes(digest[:10], "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return _canonical(f"{value:032x}")


def parse_id(text: str) -> str:
    """The canonical form of an identifier as people write it.

    Accepts hyphenated, upper-case, braced, `urn:uuid:` and bare 32-digit forms.

    Raises:
        ValueError: with a sentence in the wording that clients of the original server know.
    """
    bare = text.removeprefix("urn:uuid:")
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    offset = text.find(bare) if bare else 0
    for position, character in enumerate(bare):
        if character != "-" and not _HEX.match(character):
            raise ValueError(
                "invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-], "
                f"found `{character}` at {offset + position + 1}"
            )
    if "-" in bare:
        groups = [len(group) for group in bare.split("-")]
        if groups != [8, 4, 4, 4, 12]:
            raise ValueError(f"invalid group lengths: expected 8-4-4-4-12, found {'-'.join(map(str, groups))}")
        bare = bare.replace("-", "")
    if len(bare) != 32:
        raise ValueError(f"invalid length: expected length 32 for simple format, found {len(bare)}")
    return _canonical(bare.lower())


def _canonical(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

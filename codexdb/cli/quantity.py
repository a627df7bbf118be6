"""Spans of time and amounts of bytes, as people type them."""

import re
from typing import Any

import click

_SPANS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Quantity(click.ParamType[int]):
    """A number and its unit."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In the smallest unit: milliseconds, or bytes."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(rf"(\d+)({'|'.join(self._units)})", str(value).strip(), re.IGNORECASE)
        if found is None:
            units = ", ".join(self._units)
            self.fail(f"{value!r} is not a number with one of the units {units}, as in {self._example}", param, ctx)
        units = {name.lower(): size for name, size in self._units.items()}
        return int(found[1]) * units[found[2].lower()]


SPAN = Quantity("span", _SPANS_MS, "30d")
SIZE = Quantity("size", _BYTES, "2GB")

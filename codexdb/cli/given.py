"""What people give to commands as a message."""

import sys

import click

from codexdb.domain.limits import LINE_BYTES_MAX


def message_text(argument: str, name: str) -> str:
    """A message as it was given: `-` stands for stdin. `name`: of the argument.

    Raises:
        click.BadParameter: it is empty or too long.
    """
    text = argument
    if argument == "-":
        read = sys.stdin.buffer.read(LINE_BYTES_MAX + 1)
        if len(read) > LINE_BYTES_MAX:
            raise click.BadParameter(f"more than {LINE_BYTES_MAX} bytes", param_hint=name)
        text = read.decode(errors="replace")
    if not text.strip():
        raise click.BadParameter("it is empty", param_hint=name)
    return utf8(text)


def utf8(argument: str) -> str:
    """An argument as text that can be stored and printed: bytes of it that are no UTF-8 are replaced."""
    return argument.encode(errors="surrogateescape").decode(errors="replace")

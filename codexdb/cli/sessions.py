"""`codexdb sessions`: the group of commands about sessions."""

import click

from codexdb.cli.transfer import export, take_in


@click.group()
def sessions() -> None:
    """Move sessions into files and out of them."""


sessions.add_command(export)
sessions.add_command(take_in)

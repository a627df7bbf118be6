"""How a `--help` page is laid out: what the command does, its options in groups, examples."""

import sys
from collections.abc import Sequence

import click

INTERRUPTED = 130  # what shells give to a program ended by SIGINT


class Option(click.Option):
    """An option that stands under a heading of its own."""

    def __init__(self, param_decls: Sequence[str], *, section: str = "Options", **attributes: object) -> None:
        super().__init__(param_decls, **attributes)  # pyright: ignore[reportArgumentType] - click's own, passed on
        self.section = section


class Program(click.Group):
    """All commands. One that is interrupted says nothing more, and ends with the code that shells give."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


class Page(click.Command):
    """A command with examples, which are shown as they are given."""

    def __init__(self, name: str | None, *, examples: Sequence[str] = (), **attributes: object) -> None:
        super().__init__(name, **attributes)  # pyright: ignore[reportArgumentType] - click's own, passed on
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        super().format_epilog(ctx, formatter)


DATABASE = click.option(
    "--db",
    cls=Option,
    section="Database",
    metavar="FILE",
    help="The database. Default: $CODEXDB_DB, else $CODEX_HOME/codexdb/codexdb.sqlite3.",
)
JSON = click.option("--json", "as_json", cls=Option, section="Output", is_flag=True, help="JSON, one object a line.")

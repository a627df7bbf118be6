"""Every command and every option says what it is for, and the documentation knows every command."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from codexdb.cli.commands import codexdb
from codexdb.cli.page import Option, Page

ROOT = Path(__file__).parents[2]
WIDTH = 80


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


COMMANDS = dict(commands(codexdb))
PAGES = {path: command for path, command in COMMANDS.items() if isinstance(command, Page)}


def help_of(*path: str) -> str:
    result = CliRunner().invoke(codexdb, [*path, "--help"], prog_name="codexdb")
    assert result.exit_code == 0
    return result.output


def test_there_is_something_to_look_at() -> None:
    leaves = {path for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert leaves == PAGES.keys(), "a command without a page of its own has neither sections nor examples"
    assert ("serve",) in PAGES
    assert ("db", "sql") in PAGES


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_says_what_it_does_in_one_line_of_its_group(path: tuple[str, ...]) -> None:
    short = COMMANDS[path].get_short_help_str(limit=WIDTH - 20)
    assert short
    assert not short.endswith("..."), "it is cut off in the list of commands"


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_option_has_a_heading_and_a_help_text(path: tuple[str, ...]) -> None:
    page = help_of(*path)
    for option in PAGES[path].params:
        if isinstance(option, click.Argument):
            assert option.human_readable_name in (PAGES[path].help or ""), "the text has to say what an argument is"
            continue
        assert isinstance(option, Option)
        assert option.help
        assert f"{option.section}:" in page
        assert option.opts[0] in page


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_page_ends_with_examples_that_are_calls_of_this_command(path: tuple[str, ...]) -> None:
    examples = PAGES[path].examples
    name = " ".join(path).replace("mcp-server", "serve")
    assert examples
    assert all(f"codexdb {name}" in example for example in examples)
    assert help_of(*path).rstrip().endswith(examples[-1])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_documentation_mentions_every_command(path: tuple[str, ...]) -> None:
    texts = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    name = " ".join(path)
    assert any(f"codexdb {name}" in text for text in texts)


def test_help_of_serve_is_help_and_not_a_server() -> None:
    assert "Serve one MCP client" in help_of("serve")
    assert "codexdb mcp-server [OPTIONS]" in help_of("mcp-server")

"""The generated parts of docs/tools.md: every tool, every command, every option of `serve`."""

from collections.abc import Iterator
from typing import cast

import click

from codexdb.cli.commands import codexdb
from codexdb.domain.json import JsonObject
from codexdb.protocol.arguments import schema_of
from codexdb.protocol.tools import TOOLS, Tool


def blocks() -> dict[str, str]:
    """The text of every generated block, by the name in its marker."""
    return {"tools": "\n".join(map(_tool, TOOLS)), "commands": _commands(), "serve": _options()}


def _tool(tool: Tool) -> str:
    schema = schema_of(tool.arguments)
    required = cast("list[str]", schema.get("required", []))
    properties = cast("dict[str, JsonObject]", schema["properties"])
    aliases = ", ".join(f"`{alias}`" for alias in tool.aliases)
    lines = [f"### `{tool.name}`", "", tool.description, ""]
    if aliases:
        lines += [f"Also accepted, not listed: {aliases}.", ""]
    lines += ["| argument | type | |", "|---|---|---|"]
    lines += [
        f"| `{name}`{_mark(name, required)} | {_type(each)} | {_about(each)} |" for name, each in properties.items()
    ]
    return "\n".join([*lines, "", f"Returns {_result(tool.output)}.", ""])


def _mark(name: str, required: list[str]) -> str:
    return " (required)" if name in required else ""


def _type(schema: JsonObject) -> str:
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in cast("list[str]", schema["enum"]))
    if schema.get("type") == "array":
        parts = cast("list[JsonObject]", cast("JsonObject", schema["items"])["oneOf"])
        return "array of " + " or ".join(_part(part) for part in parts)
    return str(schema["type"])


def _part(schema: JsonObject) -> str:
    fields = cast("dict[str, JsonObject]", schema["properties"])
    members = [f'"{name}": "{each["const"]}"' if "const" in each else f'"{name}": …' for name, each in fields.items()]
    return f"`{{{', '.join(members)}}}`"


_BOUNDS = {"minimum": "at least", "maximum": "at most", "minLength": "length at least", "maxLength": "length at most"}


def _about(schema: JsonObject) -> str:
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema]
    if schema.get("default") is not None:
        bounds.append(f"default {str(schema['default']).lower()}")
    text = str(schema.get("description", ""))
    return f"{text} ({', '.join(bounds)})" if bounds else text


def _result(output: JsonObject) -> str:
    required = cast("list[str]", output["required"])
    properties = cast("dict[str, JsonObject]", output["properties"])
    return ", ".join(f"`{name}`" if name in required else f"`{name}` (not always)" for name in properties)


# -- the command line ------------------------------------------------------------------------------------------------


def commands(group: click.Group = codexdb, prefix: str = "codexdb") -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name, those of groups behind their group."""
    for name, command in group.commands.items():
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")


def _commands() -> str:
    """One row per command; a name that shares its command with another is a synonym."""
    names: dict[click.Command, list[str]] = {}
    for name, command in commands():
        names.setdefault(command, []).append(f"`{name}`")
    rows = [f"| {', '.join(known_as)} | {_first_sentence(command.help or '')} |" for command, known_as in names.items()]
    return "\n".join(["| command | does |", "|---|---|", *rows, ""])


def _first_sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _options() -> str:
    lines = ["| option | value | default | does |", "|---|---|---|---|"]
    for parameter in codexdb.commands["serve"].params:
        if isinstance(parameter, click.Option):
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            default = f"`{parameter.default}`" if parameter.show_default else ""
            lines.append(f"| {names} | {_value(parameter)} | {default} | {parameter.help} |")
    return "\n".join([*lines, ""])


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in cast("click.Choice[str]", option.type).choices)
    return f"`{option.metavar}`"

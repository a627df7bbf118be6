"""Where configuration comes from: config.toml, and dotted overrides written into it. Also which overrides are secret.

Functions here block for as long as a small local file takes; nothing of them is typed yet (see `schema`).
"""

import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from codexdb.domain.errors import InvalidConfigError
from codexdb.domain.foreign_file import open_regular
from codexdb.domain.json import JsonObject, encode

CONFIG_BYTES_MAX = 1024 * 1024  # of config.toml; people write it by hand
OVERRIDES_MAX = 1_000  # per session; more is a client in a loop
OVERRIDE_DEPTH_MAX = 32  # tables in one dotted key; the deepest real one has four
OVERRIDES_BYTES_MAX = 256 * 1024  # of all overrides of a session as JSON; they are stored with it and cached

_HEADERS = frozenset({"http_headers", "query_params", "experimental_bearer_token"})
_SECRET_WORDS = ("key", "secret", "token", "password")
_PUBLIC_NAMES = frozenset({"env_key", "env_key_instructions", "env_http_headers"})  # they name variables, not values
_MAY_AUTHORIZE = re.compile(r"://|(?:key|secret|token|password|authorization|bearer)(?![a-z])", re.IGNORECASE)
_TOKEN_NUMBERS = frozenset(
    {"model_auto_compact_token_limit", "model_max_output_tokens", "tool_output_token_limit", "max_output_tokens"}
)


@dataclass(frozen=True, slots=True, eq=False)
class ConfigFile:
    """One state of config.toml. The same object comes back while the file is unchanged, so that it can key caches."""

    path: Path
    tree: JsonObject = field(repr=False)  # never changed; holds whatever secrets people wrote there


def codex_home(environ: Mapping[str, str]) -> Path:
    """The directory of config.toml: `$CODEX_HOME`, which must exist if it is given, else `~/.codex`, which need not.

    Raises:
        InvalidConfigError: `$CODEX_HOME` is not an existing directory, or there is no home directory at all.
    """
    given = environ.get("CODEX_HOME")
    if given:
        try:
            home = Path(given).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InvalidConfigError(f"CODEX_HOME is `{given}`, which cannot be opened: {_reason(error)}") from error
        if not home.is_dir():
            raise InvalidConfigError(f"CODEX_HOME is `{given}`, which is not a directory")
        return home
    try:
        return Path(environ.get("HOME") or Path.home()) / ".codex"
    except RuntimeError as error:
        raise InvalidConfigError("no home directory found; set CODEX_HOME") from error


def read_config(home: Path) -> ConfigFile:
    """The config.toml of `home`; an absent one is an empty one. Read again only after the file has changed.

    Raises:
        InvalidConfigError: it cannot be read, is too large or is not TOML; the text names the file.
    """
    path = home / "config.toml"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _parsed(path, None)
    except OSError as error:
        raise InvalidConfigError(f"cannot read {path}: {_reason(error)}") from error
    return _parsed(path, (found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=8)
def _parsed(path: Path, identity: tuple[int, int, int] | None) -> ConfigFile:
    if identity is None:
        return ConfigFile(path, {})
    try:
        return ConfigFile(path, tomllib.loads(read_text(path, CONFIG_BYTES_MAX)))
    except OSError as error:
        raise InvalidConfigError(f"cannot read {path}: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfigError(f"cannot read {path}: {error}") from error


def read_text(path: Path, bytes_max: int) -> str:
    """The text of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, not UTF-8, or larger than `bytes_max`.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise ValueError(f"larger than {bytes_max} bytes")
    return content.decode()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} (os error {error.errno})"
    return str(error)


# -- overrides -------------------------------------------------------------------------------------------------------


def effective(*layers: JsonObject) -> JsonObject:
    """The overrides of all layers, later ones stronger, without those that a later one replaces whole.

    What is left no longer depends on its order, but for a table's override preceding those inside the table, which
    `with_overrides` restores. So they can be stored in any order.

    Raises:
        InvalidConfigError: too many, too deep or too large.
    """
    given = [key for layer in layers for key in layer]
    if len(given) > OVERRIDES_MAX:
        raise InvalidConfigError(f"more than {OVERRIDES_MAX} configuration overrides")
    if any(key.count(".") >= OVERRIDE_DEPTH_MAX for key in given):
        raise InvalidConfigError(f"a configuration override is nested deeper than {OVERRIDE_DEPTH_MAX} tables")
    kept = merged(*layers)
    if len(encode(kept)) > OVERRIDES_BYTES_MAX:
        raise InvalidConfigError(f"configuration overrides larger than {OVERRIDES_BYTES_MAX} bytes")
    return kept


def merged(*layers: JsonObject) -> JsonObject:
    """The same for overrides that were found to be within bounds."""
    replaced: set[str] = set()
    kept: JsonObject = {}
    for key, value in reversed([item for layer in layers for item in layer.items()]):
        parts = key.split(".")
        if replaced.isdisjoint(".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
            kept[key] = value
        replaced.add(key)
    return kept


def with_overrides(tree: JsonObject, overrides: JsonObject) -> JsonObject:
    """A copy of `tree` with each override written at its dotted path, outer tables first; `tree` itself is untouched.

    Missing tables are created, anything else in the way gives way to a table, and a table replaces a whole table.
    """
    for key, value in sorted(overrides.items(), key=lambda item: (item[0].count("."), item[0])):
        tree = _written(tree, key.split("."), _toml(value))
    return tree


def _written(table: JsonObject, path: list[str], value: object) -> JsonObject:
    head, *rest = path
    if rest:
        inner = table.get(head)
        value = _written(cast("JsonObject", inner) if isinstance(inner, dict) else {}, rest, value)
    return {**table, head: value}


def _toml(value: object) -> object:
    """JSON as TOML can hold it: TOML has no null."""
    match value:
        case None:
            return ""
        case dict():
            return {key: _toml(inner) for key, inner in cast("JsonObject", value).items()}
        case list():
            return [_toml(inner) for inner in cast("list[object]", value)]
        case _:
            return value


# -- secrets ---------------------------------------------------------------------------------------------------------


def separate(overrides: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Split overrides into those that may be stored and those that hold a secret anywhere inside."""
    secret = {key: value for key, value in overrides.items() if _holds_secret(key, value)}
    return {key: value for key, value in overrides.items() if key not in secret}, secret


def is_secret(path: tuple[str, ...], value: object) -> bool:
    """Whether the value at this path of the configuration is to be kept out of rows, logs and texts."""
    lower = tuple(part.lower() for part in path)
    match lower:
        case ("model_providers", _, name, *_) if name in _HEADERS:
            return True
        case ("mcp_servers", _, "env" | "http_headers", *_):
            return True
        case ("notify", *_) | ("mcp_servers", _, "args", *_) if isinstance(value, str) and _MAY_AUTHORIZE.search(value):
            return True  # a word of a command line: addresses of web hooks and options such as `--token` come with keys
        case _:
            pass
    if isinstance(value, str) and _url_with_secret(value):
        return True
    if isinstance(value, dict) or value is None or isinstance(value, bool) or not lower:
        return False
    return any(word in lower[-1] for word in _SECRET_WORDS) and not _harmless(lower, value)


def _harmless(path: tuple[str, ...], value: object) -> bool:
    if path[0] == "model_providers" and _PUBLIC_NAMES.intersection(path[2:3]):
        return True
    return (path[-1] in _TOKEN_NUMBERS or path == ("turn_budget", "tokens")) and isinstance(value, int | float)


def _url_with_secret(text: str) -> bool:
    """Whether it is an address with user-info or a query, the two places of an address where keys are put."""
    if "://" not in text:
        return False
    try:
        address = urlsplit(text)
    except ValueError:
        return True  # nobody can tell what it holds
    return "@" in address.netloc or bool(address.query)


def _holds_secret(key: str, value: object) -> bool:
    return any(is_secret(path, inner) for path, inner in _nodes(tuple(key.split(".")), value))


def _nodes(path: tuple[str, ...], value: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """The value and everything inside it. Elements of a list go by the list's own path."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in cast("JsonObject", value).items():
            yield from _nodes((*path, name), inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _nodes(path, inner)

"""Which commands destroy what cannot be brought back, so that a person is asked even where the policy would not ask.

A seat belt, not a wall: it knows the usual ways in which a model loses somebody's work, and is easily got round. What a
command may touch at all is the sandbox's to say.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import PurePath

_SHELLS = frozenset({"bash", "dash", "sh", "zsh"})
_WRAPPERS = frozenset({"sudo", "doas", "env", "nohup", "command", "exec", "time", "timeout", "nice", "xargs"})
_KEYWORDS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "}", "!"})  # a command follows them
_RUNNERS = _WRAPPERS | _KEYWORDS
_SCRIPT_CHARS_MAX = 1024 * 1024  # of a script that is looked into; no kernel takes a longer argument
_JOINTS = ";|&()\n"
_NESTED_MAX = 4  # shells within shells that are looked into; nobody reads further
_GIT_VALUES = frozenset({"-C", "-c", "--git-dir", "--work-tree", "--namespace"})  # options before the verb with a word
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)


def danger(argv: Sequence[str]) -> str | None:
    """What a person should know before this command runs, as the end of a sentence; None where nothing is known.

    Looks into scripts of shells and behind programs that run others (`sudo`, `env`, `xargs`).
    """
    return _danger(list(argv), _NESTED_MAX)


def _danger(words: list[str], nested: int) -> str | None:
    at = 0
    while at < len(words) and (_name(words[at]) in _RUNNERS or _ASSIGNMENT.match(words[at])):
        at += 1
        while at < len(words) and (words[at].startswith("-") or words[at][:1].isdigit()):  # its options, `timeout 5`
            at += 1
    if at == len(words):
        return None
    name, arguments = _name(words[at]), words[at + 1 :]
    if name in _SHELLS:
        return _in_script(arguments, nested - 1)
    check = _CHECKS.get("mkfs" if name.startswith("mkfs.") else name)
    return None if check is None else check(arguments)


def _name(word: str) -> str:
    return PurePath(word).name


def _in_script(arguments: Sequence[str], nested: int) -> str | None:
    if nested == 0:
        return None
    flag = next((at for at, word in enumerate(arguments) if re.fullmatch(r"-\w*c", word)), None)
    script = None if flag is None else next(iter(arguments[flag + 1 :]), None)
    if script is None or len(script) > _SCRIPT_CHARS_MAX:
        return None
    lexer = shlex.shlex(script, posix=True, punctuation_chars=_JOINTS)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word and not word.strip(_JOINTS):
                commands.append([])
            else:
                commands[-1].append(word)
    except ValueError:  # a quote that does not end: what came before it still counts
        pass
    return next((found for command in commands if (found := _danger(command, nested)) is not None), None)


def _flags(arguments: Sequence[str]) -> set[str]:
    """Long options without their values, and the letters of short ones."""
    found: set[str] = set()
    for argument in arguments:
        if argument == "--":
            break
        if argument.startswith("--"):
            found.add(argument.partition("=")[0])
        elif argument.startswith("-"):
            found.update(argument[1:])
    return found


def _rm(arguments: Sequence[str]) -> str | None:
    flags = _flags(arguments)
    if flags & {"f", "--force"} and flags & {"r", "R", "--recursive"}:
        return "it deletes whole folders without asking"
    return None


def _git(arguments: Sequence[str]) -> str | None:
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        rest = rest[2 if rest[0] in _GIT_VALUES else 1 :]
    if not rest:
        return None
    verb, flags, names = rest[0], _flags(rest[1:]), [word for word in rest[1:] if not word.startswith("-")]
    force = bool(flags & {"f", "--force"})
    match verb:
        case "reset" | "checkout" | "switch" if _discards(verb, flags, force=force):
            return "it throws away changes that are not committed"
        case "clean" if force and not flags & {"n", "--dry-run"}:
            return "it deletes files that git does not know"
        case "branch" if "D" in flags or (flags & {"d", "--delete"} and force):
            return "it deletes a branch, whether it is merged or not"
        case "push" if force or flags & {"d", "--delete", "--mirror", "--force-with-lease"} or _rewrites(names):
            return "it overwrites or deletes what others may rely on"
        case _:
            return None


def _discards(verb: str, flags: set[str], *, force: bool) -> bool:
    return "--hard" in flags if verb == "reset" else force or "--discard-changes" in flags


def _rewrites(names: Sequence[str]) -> bool:
    """Whether a refspec of `git push` forces (`+main`) or deletes (`:main`)."""
    return any(name.startswith(("+", ":")) for name in names)


def _dd(arguments: Sequence[str]) -> str | None:
    overwrites = any(word.startswith("of=/dev/") and word != "of=/dev/null" for word in arguments)
    return "it overwrites a device" if overwrites else None


def _formats(_arguments: Sequence[str]) -> str | None:
    return "it makes a new file system where another one may be"


def _stops(_arguments: Sequence[str]) -> str | None:
    return "it stops the machine"


_CHECKS: dict[str, Callable[[Sequence[str]], str | None]] = {
    "rm": _rm,
    "git": _git,
    "dd": _dd,
    "mkfs": _formats,
    "halt": _stops,
    "poweroff": _stops,
    "reboot": _stops,
    "shutdown": _stops,
}

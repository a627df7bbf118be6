"""Which commands only read, so that nobody has to be asked before they run.

Owns the lists and a lexer for the scripts of `bash -lc`. It knows a small part of the shell's language on purpose: what
it does not know is not safe, so that a gap costs a question and never more. Nothing here runs or opens anything.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SCRIPT_CHARS_MAX = 16 * 1024  # of a script that is looked into; nobody reads with longer ones

_DIRECTORIES = ("/bin/", "/usr/bin/")  # where only the system's own package manager writes
_SHELLS = frozenset({"bash", "sh", "zsh"})
_READERS = frozenset(
    {"cat", "cd", "echo", "false", "grep", "head", "ls", "nl", "pwd", "tail", "true", "wc", "which"}
)  # whatever their arguments
_FIND_ACTS = frozenset(
    {"-delete", "-exec", "-execdir", "-fls", "-fprint", "-fprint0", "-fprintf", "-ok", "-okdir"}
)  # options of find that run or write
_RG_RUNS = ("--pre", "--hostname-bin", "--search-zip")
_GIT_READS = frozenset({"branch", "diff", "log", "show", "status"})
_GIT_ACTS = ("--output", "--ext-diff", "--textconv", "--exec-path")
_GIT_HARMLESS = frozenset({"--text"})  # options that begin like one that is not
_BRANCH_LISTS = frozenset({"--list", "-l", "--contains", "--no-contains", "--merged", "--no-merged", "--points-at"})
_BRANCH_SHOWS = _BRANCH_LISTS | {
    *("-a", "-r", "-v", "-vv", "-i", "--all", "--remotes", "--verbose", "--show-current", "--ignore-case"),
    *("--color", "--no-color", "--column", "--no-column", "--abbrev", "--no-abbrev", "--sort", "--format"),
}
_SED_LINES = re.compile(r"\d+(?:,\d+)?p", re.ASCII)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command, as the program gets it, but for what the shell makes of `wild`."""

    text: str
    quoted: bool = False
    wild: bool = False  # the shell puts file names in its place


def is_safe(argv: Sequence[str]) -> bool:
    """Whether the command only reads: a known program with known options, or a shell script of nothing else."""
    if len(argv) == 3 and _program(argv[0]) in _SHELLS and argv[1] in {"-c", "-lc"}:
        commands = plain_commands(argv[2])
        return commands is not None and all(_is_safe(command) for command in commands)
    return _is_safe([Word(text) for text in argv])


def _program(name: str) -> str:
    """`ls` for `ls` and for a path where the system's own `ls` is; any other path stays one, and is no known name."""
    for directory in _DIRECTORIES:
        if name.startswith(directory):
            return name.removeprefix(directory)
    return name


def _is_safe(command: Sequence[Word]) -> bool:
    if not command or command[0].quoted:
        return False
    name = _program(command[0].text)
    if name in _READERS:
        return True
    check = _CHECKS.get(name)
    if check is None or any(word.wild and _may_become_option(name, word.text) for word in command[1:]):
        return False
    return check([word.text for word in command[1:]])


def _may_become_option(program: str, pattern: str) -> bool:
    """Whether a file of the right name would make an option that acts of this word: `*`, `-d*`."""
    if program == "find":
        return any(fnmatch.fnmatchcase(option, pattern) for option in _FIND_ACTS)
    return pattern[0] in "*?-"  # these take options with a value, so `--pre=x.py` fits `*.py`


# -- programs of which only some uses are safe -----------------------------------------------------------------------


def _find(arguments: Sequence[str]) -> bool:
    return _FIND_ACTS.isdisjoint(arguments)


def _rg(arguments: Sequence[str]) -> bool:
    return not any(
        argument.partition("=")[0] in _RG_RUNS or (re.match(r"-[^-]", argument) and "z" in argument)
        for argument in arguments
    )


def _git(arguments: Sequence[str]) -> bool:
    if not arguments or arguments[0] not in _GIT_READS:
        return False  # options before the verb too: they change where git looks for programs
    verb, *rest = arguments
    if "-c" in rest or any(_shortens(argument, _GIT_ACTS) for argument in rest):
        return False
    return verb != "branch" or _git_branch(rest)


def _shortens(argument: str, options: Sequence[str]) -> bool:
    """Whether git may take the argument for one of the options; it understands their beginnings too."""
    name = argument.partition("=")[0]
    if not re.match(r"--\w", name) or name in _GIT_HARMLESS:
        return False
    return any(option.startswith(name) for option in options)


def _git_branch(arguments: Sequence[str]) -> bool:
    """Only what lists. `git branch NAME` makes one, so a name needs an option that makes git look for it."""
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    names = len(options) < len(arguments)
    return _BRANCH_SHOWS.issuperset(options) and (not names or not _BRANCH_LISTS.isdisjoint(options))


def _sed(arguments: Sequence[str]) -> bool:
    """`sed -n 1,5p FILE`. Nothing else: scripts of sed write files, and GNU's run commands."""
    if len(arguments) != 3 or arguments[0] != "-n" or arguments[2].startswith("-"):
        return False
    return _SED_LINES.fullmatch(arguments[1]) is not None


_CHECKS: dict[str, Callable[[Sequence[str]], bool]] = {"find": _find, "git": _git, "rg": _rg, "sed": _sed}


# -- scripts ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
    (?P<blank> [ \t]+ )
  | (?P<joint> && | \|\| | [|;\n] )
  | (?: '(?P<single> [^'\0]* )'
      | "(?P<double> (?: [^"\\$`\0] | \\[^"\\$`\n\0] )* )"
      | (?P<bare> (?: [\w.,:=@%+*?~/-] | \\[ ] )+ )
    ) (?= [ \t\n;|&] | \Z )
    """,
    re.VERBOSE,
)


def plain_commands(script: str) -> list[list[Word]] | None:
    """The commands of a script that is nothing but plain commands joined by `&&`, `||`, `;`, `|` or line ends.

    None for every other script: empty, with redirections, expansions, groups, `&`, `!`, comments or here-documents,
    with words put together of several parts, or not complete. In double quotes a backslash stands for itself here;
    where it would not, the answer is None.
    """
    commands: list[list[Word]] = []
    command: list[Word] = []
    open_joint = False  # the script cannot end here
    at = 0
    while at < len(script) <= SCRIPT_CHARS_MAX:
        token = _TOKEN.match(script, at)
        if token is None:
            return None
        at = token.end()
        if token["joint"] is None:
            command += [] if token["blank"] else [_word(token)]
            continue
        if command:
            commands.append(command)
            command, open_joint = [], token["joint"] not in {";", "\n"}
        elif token["joint"] != "\n":
            return None
    if command:
        commands.append(command)
    elif open_joint:
        return None
    return commands if at == len(script) and commands else None


def _word(token: re.Match[str]) -> Word:
    bare = token["bare"]
    if bare is None:
        return Word(token["double"] if token["single"] is None else token["single"], quoted=True)
    return Word(bare.replace("\\ ", " "), wild="*" in bare or "?" in bare)

"""A transcript as Markdown, for issues, reviews and notes."""

import re
from collections.abc import Iterator

from codexdb.cli import wording
from codexdb.cli.screen import harmless
from codexdb.cli.wording import Call
from codexdb.domain.transcript import (
    Command,
    Message,
    Notice,
    Output,
    Passage,
    Patch,
    Plan,
    Reasoning,
    Summary,
    Transcript,
    Turn,
)

_FENCES = re.compile(r"^[^\S\n]*(`{3,})", re.MULTILINE)  # of one line: blank lines would be read again from each
_CODE_OR_TAG = re.compile(r"```.*?```|`[^`\n]*`|<", re.DOTALL)
_BOXES = {"completed": "x"}


def as_markdown(transcript: Transcript) -> str:
    """All of it. What was said stands as it was, since models write Markdown; everything else is quoted or fenced."""
    parts = [f"# {_escaped(_line(transcript.title)) or 'A session without a message'}\n", _facts(transcript)]
    if transcript.items_left_out:
        parts.append(f"*The first {transcript.items_left_out:,} items are left out.*\n")
    for turn in transcript.turns:
        parts.extend(_turn(turn, transcript.cwd))
    return harmless("\n".join(parts))


def _facts(transcript: Transcript) -> str:
    rows = [f"| {name} | {_cell(value)} |\n" for name, value in wording.session_facts(transcript)]
    return "| | |\n|---|---|\n" + "".join(rows)


def _turn(turn: Turn, cwd: str) -> Iterator[str]:
    yield f"## {wording.turn_name(turn)}\n"
    yield f"*{wording.turn_summary(turn)}*\n"
    for passage in turn.passages:
        yield _passage(passage, cwd)
    if turn.error_message is not None:
        yield f"**{turn.error_kind}**\n\n{_fenced('text', turn.error_message)}"


def _passage(passage: Passage, cwd: str) -> str:  # noqa: PLR0911 - one kind of passage after another
    match passage:
        case Message():
            who = "User" if passage.role == "user" else "Agent"
            images = [f"*{wording.count(passage.images, 'image')}*"] if passage.images else []
            note = [f"*{passage.note}*"] if passage.note else []
            return "\n\n".join([f"### {who}", _prose(passage.text), *images, *note]) + "\n"
        case Reasoning():
            return _quoted(passage.text)
        case Command():
            return _fenced("sh", wording.command_line(passage.command)) + _came(passage)
        case Patch():
            return _patch(passage, cwd)
        case Plan():
            steps = "".join(
                f"- [{_BOXES.get(status, ' ')}] {_escaped(_line(step))}\n" for step, status in passage.steps
            )
            return f"{_escaped(_line(passage.explanation or 'Plan'))}\n\n{steps}"
        case Summary():
            return f"**Summary, from which the model goes on**\n\n{_quoted(passage.text)}"
        case Notice():
            return f"*{_escaped(_line(passage.text))}*\n"
        case _:
            name = f"{passage.server} · {passage.tool}" if passage.server else passage.tool
            return f"**{_escaped(_line(name))}**\n\n{_fenced('json', passage.arguments)}{_came(passage)}"


def _came(call: Call) -> str:
    """What was asked, what it printed, how it came out."""
    asked = f"\n*{_escaped(_line(wording.asked(call.question)))}*\n" if call.question is not None else ""
    output = "" if isinstance(call, Patch) and call.state == "succeeded" else _output(call.output)
    text, _ = wording.outcome(call)
    return f"{asked}{output}" + (f"\n*{text}*\n" if text else "")


def _patch(patch: Patch, cwd: str) -> str:
    shown: list[str] = []
    for change in patch.files:
        moved = f" → {wording.path(change.moved_to, cwd)}" if change.moved_to else ""
        shown.append(f"{_code(wording.path(change.path, cwd) + moved)} ({change.kind})\n")
        if change.diff:
            shown.append(_fenced("diff", change.diff))
    if patch.text:
        shown.append(_fenced("diff", patch.text))
    return "\n".join(shown) + _came(patch)


def _output(output: Output) -> str:
    if not output.head.strip():
        return ""
    middle = f"\n{wording.left_out(output)}\n{output.tail}" if output.left_out_chars else ""
    return f"\n{_fenced('text', output.head + middle)}"


# -- pieces ------------------------------------------------------------------------------------------------------------


def _fenced(language: str, text: str) -> str:
    """A block that the text cannot end."""
    ticks = "`" * max(3, 1 + max((len(found) for found in _FENCES.findall(text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}\n"


def _prose(text: str) -> str:
    """What somebody said. HTML in it is shown and not passed on; a fence left open would swallow what follows."""
    if len(_FENCES.findall(text)) % 2:
        return _fenced("text", text).rstrip()
    return _CODE_OR_TAG.sub(lambda found: "&lt;" if found[0] == "<" else found[0], text).strip()


def _quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in _prose(text).splitlines())


def _line(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{_line(text)}{ticks}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _cell(text: str) -> str:
    return _escaped(_line(text))

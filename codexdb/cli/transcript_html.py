"""A transcript as one HTML file that stands alone: no script, nothing loaded, every text escaped."""

import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files

from codexdb.cli import wording
from codexdb.cli.screen import harmless
from codexdb.cli.transcript_chart import chart
from codexdb.cli.wording import BAD, Call
from codexdb.domain.transcript import (
    Command,
    FileChange,
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

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"  # whatever a text holds
_FENCE = re.compile(r"^```([^\n]*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_KINDS = {"+": "add", "-": "del", "@": "place"}
_STEPS = {"completed": "done", "in_progress": "now"}


def as_html(transcript: Transcript, above: str = "") -> str:
    """All of it, as a document; `above` is HTML that comes first."""
    title = transcript.title or "A session without a message"
    style = files("codexdb.cli").joinpath("transcript.css").read_text(encoding="utf-8")
    facts = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in wording.session_facts(transcript))
    left_out = f"<p class='notice'>The first {transcript.items_left_out:,} items are left out.</p>\n"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{above}<main>\n",
            f"<header>\n<h1>{_text(title)}</h1>\n<dl>{facts}</dl>\n{chart(transcript.turns)}</header>\n",
            left_out if transcript.items_left_out else "",
            *(_turn(turn, transcript.cwd) for turn in transcript.turns),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _turn(turn: Turn, cwd: str) -> str:
    name = f' id="turn-{turn.number}"' if turn.number is not None and not turn.inherited else ""
    inside = "".join(_passages(turn, cwd))
    error = f'<p class="error"><b>{_text(turn.error_kind or "")}</b> {_text(turn.error_message or "")}</p>\n'
    return (
        f'<section class="turn {_text(turn.state)}"{name}>\n<h2>{wording.turn_name(turn)}'
        f"<small>{_text(wording.turn_summary(turn))}</small></h2>\n"
        f"{inside}{error if turn.error_message is not None else ''}</section>\n"
    )


def _passages(turn: Turn, cwd: str) -> Iterator[str]:
    """The agent's name stands where it begins to speak, not again before each of its steps."""
    last = ""
    for passage in turn.passages:
        who = "user" if isinstance(passage, Message) and passage.role == "user" else "agent"
        if who == "user":
            yield _said(passage, wording.clock(passage.at_ms)) if isinstance(passage, Message) else ""
        else:
            if who != last:
                yield f'<p class="who">Agent <time>{wording.clock(passage.at_ms)}</time></p>\n'
            yield _passage(passage, cwd)
        last = who


def _said(message: Message, at: str) -> str:
    return f'<div class="user"><p class="who">You <time>{at}</time></p>\n{_message(message)}</div>\n'


def _message(message: Message) -> str:
    images = f'<p class="note">{wording.count(message.images, "image")}</p>\n' if message.images else ""
    note = f'<p class="note">{message.note}</p>\n' if message.note else ""
    return f"{_prose(message.text)}{images}{note}"


def _passage(passage: Passage, cwd: str) -> str:  # noqa: PLR0911 - one kind of passage after another
    match passage:
        case Message():
            return _message(passage)
        case Reasoning():
            return f'<div class="thought">{_prose(passage.text)}</div>\n'
        case Command():
            line = wording.command_line(passage.command)
            return _folded(passage, f"<code>{_text(_first_line(line))}</code>", "$", _whole(line) + _came(passage))
        case Patch():
            return _patch(passage, cwd)
        case Plan():
            return _plan(passage)
        case Summary():
            heading = '<p class="who">Summary, from which the model goes on</p>'
            return f'<div class="summary">{heading}{_prose(passage.text)}</div>\n'
        case Notice():
            return f'<p class="notice">{_text(passage.text)}</p>\n'
        case _:
            name = f"{passage.server} · {passage.tool}" if passage.server else passage.tool
            given = f'<pre class="given">{_text(passage.arguments)}</pre>'
            return _folded(passage, f"<code>{_text(name)}</code>", "⚙", given + _came(passage))


def _folded(call: Call, head: str, mark: str, inside: str) -> str:
    """A call as a line that opens; open where something went wrong or is asked."""
    text, tone = wording.outcome(call)
    waits = call.question is not None and call.question.state == "pending"
    is_open = " open" if tone == BAD or waits or isinstance(call, Patch) else ""
    return (
        f'<details class="call"{is_open}><summary><span class="mark">{mark}</span>{head}'
        f'<span class="came {tone}">{text}</span></summary>\n{inside}</details>\n'
    )


def _came(call: Call) -> str:
    asked = f'<p class="asked">{_text(wording.asked(call.question))}</p>\n' if call.question is not None else ""
    output = "" if isinstance(call, Patch) and call.state == "succeeded" else _output(call.output)
    return asked + output


def _output(output: Output) -> str:
    if not output.head.strip():
        return '<p class="note">no output</p>\n'
    middle = f'<i class="left">{wording.left_out(output)}</i>\n{_text(output.tail)}' if output.left_out_chars else ""
    return f"<pre>{_text(output.head)}{middle}</pre>\n"


def _patch(patch: Patch, cwd: str) -> str:
    names = [wording.path(change.path, cwd) for change in patch.files] or ["apply_patch"]
    inside = "".join(_change(change, cwd) for change in patch.files)
    if patch.text:
        inside += f"<pre class='diff'>{_diff(patch.text)}</pre>\n"
    head = f"<code>{_text(', '.join(names[:3]) + (', …' if len(names) > 3 else ''))}</code>"
    return _folded(patch, head, "±", inside + _came(patch))


def _change(change: FileChange, cwd: str) -> str:
    moved = f" → {wording.path(change.moved_to, cwd)}" if change.moved_to else ""
    name = f"<p class='file'>{_text(wording.path(change.path, cwd) + moved)} <small>{change.kind}</small></p>\n"
    return f"{name}<pre class='diff'>{_diff(change.diff)}</pre>\n" if change.diff else name


def _diff(diff: str) -> str:
    """Each line is coloured by its first character."""
    return "".join(f'<span class="{_KINDS.get(line[:1], "same")}">{_text(line)}\n</span>' for line in diff.splitlines())


def _plan(plan: Plan) -> str:
    steps = "".join(f'<li class="{_STEPS.get(status, "later")}">{_text(step)}</li>' for step, status in plan.steps)
    return f'<div class="plan"><p>{_text(plan.explanation or "Plan")}</p><ul>{steps}</ul></div>\n'


# -- pieces ------------------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Any text, harmless in any place of the document."""
    return escape(harmless(text))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _whole(command: str) -> str:
    """A command of several lines, of which the folded line shows only one."""
    return f'<pre class="given">{_text(command)}</pre>\n' if "\n" in command.strip() else ""


def _prose(text: str) -> str:
    """What somebody said. Of its Markdown only code is set apart; the rest reads well as it is."""
    shown: list[str] = []
    at, begun = 0, None
    for fence in _FENCE.finditer(text):  # in one pass: a text may have any number of fences that nothing closes
        if begun is None:
            begun = fence
        elif not fence[1].strip():
            code = text[begun.end() + 1 : fence.start()]
            shown += [_paragraphs(text[at : begun.start()]), f'<pre class="given">{_text(code)}</pre>\n']
            at, begun = fence.end(), None
    return "".join(shown) + _paragraphs(text[at:])


def _paragraphs(text: str) -> str:
    found = [_SPAN.sub(r"<code>\1</code>", _text(part)) for part in text.strip().split("\n\n") if part]
    return "".join(f'<p class="said">{part}</p>\n' for part in found)

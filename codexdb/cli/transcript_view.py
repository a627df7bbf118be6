"""A transcript on a terminal, and the same as plain text.

The lines are put together here and not by rich: ten thousand passages have to be there at once, not after seconds.
"""

from collections.abc import Iterator, Sequence

from codexdb.cli import wording
from codexdb.cli.screen import harmless
from codexdb.cli.wording import BAD, GOOD, OPEN, Call
from codexdb.domain.json import encode
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
    facts,
)

FIRST_LINES = 16  # of an output or a diff: enough to see what it is
LAST_LINES = 8  # where errors stand
PROSE_WIDTH_MAX = 100  # longer lines are hard to read

_RESET = "\x1b[0m"
_INKS = {
    "title": "\x1b[1m",
    "user": "\x1b[1;36m",
    "assistant": "\x1b[1;35m",
    "dim": "\x1b[2m",
    "rule": "\x1b[34m",
    "command": "\x1b[1m",
    "add": "\x1b[32m",
    "delete": "\x1b[31m",
    "place": "\x1b[36m",
    "ask": "\x1b[33m",
    GOOD: "\x1b[32m",
    BAD: "\x1b[31m",
    OPEN: "\x1b[33m",
}
_MARKS = {"completed": "✔", "in_progress": "▸"}


def as_text(transcript: Transcript, turns: Sequence[Turn], *, width: int | None) -> str:
    """These turns of a session. `width`: of the terminal; None: no terminal, so no colours, and no line is broken."""
    page = _Page(width)
    page.session(transcript)
    for turn in turns:
        page.turn(turn)
    return "".join(page.lines)


def as_json(transcript: Transcript, turns: Sequence[Turn]) -> Iterator[str]:
    """One object per line: the session, then each turn, followed by its passages."""
    yield encode({"type": "session", **facts(transcript)})
    for turn in turns:
        about = {name: getattr(turn, name) for name in Turn.__slots__ if name not in {"number", "passages"}}
        yield encode({"type": "turn", "turn": turn.number, **about})
        for passage in turn.passages:
            head = encode({"type": passage.kind, "turn": turn.number, "turn_id": turn.turn_id})
            yield f"{head[:-1]},{encode(passage)[1:]}"


class _Page:
    """Collects lines."""

    def __init__(self, width: int | None) -> None:
        self.lines: list[str] = []
        self._colours = width is not None
        self._cwd = ""
        self._width = min(width or 0, PROSE_WIDTH_MAX)

    def session(self, transcript: Transcript) -> None:
        self._cwd = transcript.cwd
        self._line("", "title", transcript.title or "(no message yet)")
        for name, value in wording.session_facts(transcript):
            self._line("", "dim", f"{name:<12} {value}")
        if transcript.items_left_out:
            self._line("", OPEN, f"The first {transcript.items_left_out:,} items are not shown.")

    def turn(self, turn: Turn) -> None:
        heading = f"── {wording.turn_name(turn)} "
        self.lines.append("\n")
        self._line("", "rule", heading + "─" * max(8, (self._width or 80) - len(heading)))
        self._line("", "dim", wording.turn_summary(turn))
        last = ""
        for passage in turn.passages:
            last = self._passage(passage, last)
        if turn.error_message is not None:
            self.lines.append("\n")
            self._block("", BAD, f"{turn.error_kind}: {turn.error_message}")

    def _passage(self, passage: Passage, last: str) -> str:
        """Show it; returns who speaks now. What the agent does stands below what it says, without a heading."""
        who = "user" if isinstance(passage, Message) and passage.role == "user" else "assistant"
        self.lines.append("\n")
        if who != last or who == "user":
            self._line("", who, "You" if who == "user" else "Agent", f"  {wording.clock(passage.at_ms)}")
        match passage:
            case Message():
                self._message(passage)
            case Reasoning():
                self._prose("  ", "dim", passage.text)
            case Command():
                self._block("  ", "command", f"$ {wording.command_line(passage.command)}", more="    ")
                self._call(passage)
            case Patch():
                self._patch(passage)
            case Plan():
                self._plan(passage)
            case Summary():
                self._line("  ", "place", "summary, from which the model goes on")
                self._prose("  ", "dim", passage.text)
            case Notice():
                self._prose("  ", "dim", f"· {passage.text}")
            case _:
                name = f"{passage.server} · {passage.tool}" if passage.server else passage.tool
                self._line("  ", "command", f"⚙ {name}", f" {passage.arguments}")
                self._call(passage)
        return who

    def _message(self, message: Message) -> None:
        self._prose("  ", "", message.text)
        if message.images:
            self._line("  ", "dim", f"[{wording.count(message.images, 'image')}]")
        if message.note:
            self._line("  ", OPEN, f"[{message.note}]")

    def _call(self, call: Call) -> None:
        if call.question is not None:
            self._line("  ", "ask", f"? {wording.asked(call.question)}")
        if not (isinstance(call, Patch) and call.state == "succeeded"):  # which only repeats its files
            self._output(call.output)
        text, tone = wording.outcome(call)
        if text:
            self._line("  ", tone, f"╰ {text}")

    def _output(self, output: Output) -> None:
        lines = output.head.splitlines()
        if output.left_out_chars:
            lines = [*lines, wording.left_out(output), *output.tail.splitlines()]
        for line in _ends(lines):
            self._line("  │ ", "dim", line)

    def _patch(self, patch: Patch) -> None:
        for change in patch.files:
            moved = f" → {wording.path(change.moved_to, self._cwd)}" if change.moved_to else ""
            self._line("  ", "command", f"± {wording.path(change.path, self._cwd)}{moved}", f"  {change.kind}")
            self._diff(change)
        if patch.text:
            self._line("  ", "command", "± apply_patch")
            self._diff(FileChange("", "update", None, patch.text))
        self._call(patch)

    def _diff(self, change: FileChange) -> None:
        for line in _ends(change.diff.splitlines()):
            ink = {"+": "add", "-": "delete", "@": "place"}.get(line[:1], "dim")
            self._line("    ", ink, line)

    def _plan(self, plan: Plan) -> None:
        self._prose("  ", "", plan.explanation or "Plan")
        for step, status in plan.steps:
            ink = {"completed": GOOD, "in_progress": "command"}.get(status, "dim")
            self._line("  ", ink, f"{_MARKS.get(status, '·')} {step}")

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _line(self, indent: str, ink: str, text: str, dim: str = "") -> None:
        """One line, whatever the text holds."""
        if not text.isprintable():
            text = harmless(text).replace("\n", " ")
        if dim and not dim.isprintable():
            dim = harmless(dim).replace("\n", " ")
        if not self._colours:
            self.lines.append(f"{indent}{text}{dim}\n")
            return
        tail = f"{_INKS['dim']}{dim}{_RESET}" if dim else ""
        self.lines.append(f"{indent}{_INKS[ink]}{text}{_RESET}{tail}\n" if ink else f"{indent}{text}{tail}\n")

    def _block(self, indent: str, ink: str, text: str, more: str | None = None) -> None:
        """Lines as they are; `more` indents the second and on."""
        for number, line in enumerate(text.splitlines() or [""]):
            self._line(indent if number == 0 or more is None else more, ink, line)

    def _prose(self, indent: str, ink: str, text: str) -> None:
        """Lines, broken where the terminal is too narrow for them."""
        for line in text.splitlines():
            for part in _wrapped(line, self._width - len(indent)) if self._colours else (line,):
                self._line(indent, ink, part)


def _wrapped(line: str, room: int) -> Iterator[str]:
    """The line in pieces, between words where that can be. Many times faster than `textwrap`."""
    room, at = max(20, room), 0
    while len(line) - at > room:
        cut = line.rfind(" ", at, at + room + 1)
        cut = cut if cut > at and not line[at:cut].isspace() else at + room
        yield line[at:cut]
        at = cut
        while line.startswith(" ", at):
            at += 1
    yield line[at:]


def _ends(lines: Sequence[str]) -> Sequence[str]:
    """The first and the last lines, and how many are between."""
    if len(lines) <= FIRST_LINES + LAST_LINES + 1:
        return lines
    between = f"[… {len(lines) - FIRST_LINES - LAST_LINES:,} lines …]"
    return [*lines[:FIRST_LINES], between, *lines[-LAST_LINES:]]

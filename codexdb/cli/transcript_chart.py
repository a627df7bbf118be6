"""Tokens and time per turn, as one inline SVG that needs nothing but the page's colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from codexdb.cli import wording
from codexdb.domain.transcript import Turn

WIDTH = 820
LEFT, RIGHT = 76, 8  # room for the labels of the scale, and for the last bar's
TOP, HEIGHT, BETWEEN = 30, 84, 40  # of a panel: its title, its bars, its turn numbers
BAR_MAX, GAP_SHARE = 44, 0.28
LABELS_MAX = 24  # turn numbers below the bars; more would touch each other


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    parts: Sequence[tuple[str, Callable[[Turn], int]]]  # class → height, from the bottom up
    worded: Callable[[int], str]


_PANELS = (
    _Panel(
        "Tokens per turn",
        (("in", lambda turn: turn.usage.input_tokens), ("out", lambda turn: turn.usage.output_tokens)),
        lambda number: f"{number:,}",
    ),
    _Panel("Time per turn", (("time", lambda turn: turn.duration_ms or 0),), wording.span),
)


def chart(turns: Sequence[Turn]) -> str:
    """Nothing where there is nothing to compare."""
    own = [turn for turn in turns if not turn.inherited]
    panels = [panel for panel in _PANELS if any(value(turn) for turn in own for _, value in panel.parts)]
    if not panels:
        return ""
    height = len(panels) * (TOP + HEIGHT + BETWEEN)
    drawn = [_panel(panel, own, number * (TOP + HEIGHT + BETWEEN)) for number, panel in enumerate(panels)]
    return (
        f'<div class="scroll"><svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Tokens and time per turn">{"".join(drawn)}</svg></div>\n'
    )


def _panel(panel: _Panel, turns: Sequence[Turn], top: int) -> str:
    totals = [sum(value(turn) for _, value in panel.parts) for turn in turns]
    most = nice(max(totals))
    base = top + TOP + HEIGHT
    step = min((WIDTH - LEFT - RIGHT) / len(turns), BAR_MAX / (1 - GAP_SHARE))
    shown = [f'<text class="name" x="0" y="{top + 14}">{panel.title}</text>', _legend(panel, top)]
    for part in (0, 0.5, 1):
        y = base - HEIGHT * part
        label = panel.worded(round(most * part)) if part else "0"
        shown.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shown.append(f'<text class="scale" x="{LEFT - 8}" y="{y + 4:.1f}">{label}</text>')
    every = -(-len(turns) // LABELS_MAX)
    for number, (turn, total) in enumerate(zip(turns, totals, strict=True)):
        x, width = LEFT + step * (number + GAP_SHARE / 2), step * (1 - GAP_SHARE)
        shown.append(_bar(panel, turn, total, (x, width), (base, most)))
        if number % every == 0:
            shown.append(f'<text class="turn" x="{x + width / 2:.1f}" y="{base + 16}">{turn.number}</text>')
    return "".join(shown)


def _bar(panel: _Panel, turn: Turn, total: int, across: tuple[float, float], scale: tuple[int, int]) -> str:
    (x, width), (base, most) = across, scale
    y, pieces = float(base), ""
    for name, value in panel.parts:
        height = HEIGHT * value(turn) / most
        y -= height
        pieces += f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    about = escape(f"Turn {turn.number}: {panel.worded(total)}, {turn.state}")
    return f'<a href="#turn-{turn.number}"><title>{about}</title>{pieces}</a>'


def _legend(panel: _Panel, top: int) -> str:
    if len(panel.parts) < 2:
        return ""
    words = {"in": "read by the model", "out": "written by it"}
    shown, x = "", WIDTH - RIGHT - 250
    for name, _ in panel.parts:
        shown += f'<rect class="{name}" x="{x}" y="{top + 5}" width="10" height="10"/>'
        shown += f'<text class="key" x="{x + 16}" y="{top + 14}">{words[name]}</text>'
        x += 146
    return shown


def nice(most: int) -> int:
    """The next number that reads well as the top of a scale."""
    power = 1
    while True:
        for factor in (1, 2, 4, 5, 6, 8):
            if factor * power >= most:
                return max(2, factor * power)
        power *= 10

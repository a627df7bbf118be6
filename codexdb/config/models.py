"""What is known of models by their names."""

import re

# Tokens of input. Where makers give several numbers, or raised one later, the smallest: a window that is believed too
# large fails a long session, one that is believed too small only shortens it early. First match wins.
_CONTEXT_WINDOWS = (
    (re.compile(r"gpt-5(\.\d+)?-(chat|codex-spark)\b.*"), 128_000),
    (re.compile(r"gpt-5([-.].*)?"), 272_000),
    (re.compile(r"gpt-4\.1(-.*)?"), 1_000_000),
    (re.compile(r"gpt-4o(-.*)?"), 128_000),
    (re.compile(r"o1-(mini|preview)\b.*"), 128_000),
    (re.compile(r"(o1|o3|o4-mini|codex-mini)(-.*)?"), 200_000),
)


def context_window(model: str) -> int | None:
    """How many tokens the model takes in; None for one that is not known."""
    return next((tokens for name, tokens in _CONTEXT_WINDOWS if name.fullmatch(model)), None)

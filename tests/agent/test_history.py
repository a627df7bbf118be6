"""What goes to the model of the items on record: images of calls behind the outputs, and the same beginning always."""

import pytest

from codexdb.agent.history import as_sent, call_is_open
from codexdb.domain.item import (
    Item,
    assistant_message,
    function_call,
    function_call_output,
    input_text,
    texts,
    tool_message,
    user_message,
)

CASES = {
    "between outputs": ("a b A *A B hi", "a b A B *A hi"),
    "several": ("a b c A *A B *B C hi", "a b c A B C *A *B hi"),
    "of the last call": ("a b A B *B c C hi", "a b A B *B c C hi"),
    "a call that came later": ("a b A *A c B C hi", "a b A c B C *A hi"),
    "words between": ("a b A *A word B hi", "a b A word B *A hi"),
    "a call without an output": ("x a A *A hi", "x a A *A hi"),
    "an output without a call": ("X a A *A hi X", "X a A *A hi X"),
    "an id that comes again, first without an output": ("a b B *B hi a A *A", "a b B *B hi a A *A"),
    "an id that comes again": ("a A *A a b A *A B hi", "a A *A a b A B *A hi"),
    "at the end": ("a A *A", "a A *A"),
}


def item(word: str) -> Item:
    """`a` is a call, `A` its output, `*A` what it shows."""
    if word.startswith("*"):
        return tool_message([input_text(word)])
    if word in ("hi", "word"):
        return user_message([input_text(word)]) if word == "hi" else assistant_message(word)
    return function_call(word, "shell", "{}") if word.islower() else function_call_output(word.lower(), word)


def word(sent: Item) -> str:
    return "".join(texts(sent)) or str(sent.get("output") or sent["call_id"])


@pytest.mark.parametrize(("recorded", "sent"), CASES.values(), ids=CASES)
def test_images_stand_behind_the_outputs_and_stay_where_they_were(recorded: str, sent: str) -> None:
    items = [item(each) for each in recorded.split()]
    found = as_sent(items)
    assert [word(each) for each in found] == sent.split()
    assert {each.get("role") for each in found} <= {None, "user", "assistant"}
    for end, is_open in enumerate(call_is_open(items), 1):
        if not is_open:  # so that the model may have been asked here
            assert found[:end] == as_sent(items[:end])

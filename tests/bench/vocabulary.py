"""Text as people and models write it, as far as an index of words can tell: few words are everywhere, most are rare."""

import itertools
import random

WORDS = 20_000
SENTENCES = 12_000  # put together ahead: choosing among them is what keeps the generator fast
RARE_EVERY = 150_000  # texts: one in so many has the rare word
VERY_COMMON, COMMON, RARE = "the", "parser", "quicksilver"
"""Words to search for: in most texts, in one of some hundred, in one of `RARE_EVERY`."""
COMMON_PLACE = 300  # of the common word, when the words are sorted by how often they come

_FIRST = ("the", "a", "to", "of", "and", "in", "is", "it", "that", "file", "test", "line", "this", "for", "not", "with")
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def _words() -> list[str]:
    made = ("".join(parts) for length in (2, 3) for parts in itertools.product(_SYLLABLES, repeat=length))
    found = [*_FIRST, *itertools.islice(made, WORDS - len(_FIRST) - 1)]
    found.insert(COMMON_PLACE, COMMON)
    return found


class Vocabulary:
    """Makes texts; the same ones for the same `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        words = _words()
        weights = list(itertools.accumulate(1 / place for place in range(1, len(words) + 1)))  # Zipf's law
        self._sentences = [
            " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(5, 14))).capitalize() + "."
            for _ in range(SENTENCES)
        ]

    def text(self, sentences: int) -> str:
        """So many sentences, on one line."""
        said = self._chance.choices(self._sentences, k=sentences)
        if self._chance.random() * RARE_EVERY < 1:
            said.append(f"It was {RARE}.")
        return " ".join(said)

    def word(self) -> str:
        """Some word."""
        return self._chance.choice(self._sentences).split(" ", 1)[0].lower().strip(".")

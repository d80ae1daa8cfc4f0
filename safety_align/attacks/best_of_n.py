"""Best-of-N jailbreaking (Hughes et al. 2024): the goal again and again, each time misspelt at random.

Their augmentations, in their order: the middle letters of words are scrambled, letters change case, characters become their
neighbours in ASCII. The defaults are their probabilities at sigma = 0.4: sqrt(sigma), sqrt(sigma), sigma³. What differs
[ours]: a word is a run of letters, so that punctuation stays outside; no character becomes a blank, so that no request is
empty; their composition with a prefix is left out.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from safety_align.attacks.base import OneRound, ask
from safety_align.attacks.sampling import MAX_DRAWS
from safety_align.bounds import number
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import Request, Sampling
from safety_align.errors import InputError
from safety_align.fields import check_fields

_WORD = re.compile(r"[^\W\d_]{4,}")
"""A word longer than three letters."""

_FIRST, _LAST = "!", "~"
"""The range of ASCII that noise stays in: printable, not blank."""


@dataclasses.dataclass(frozen=True)
class BestOfN(OneRound):
    """Every draw augments the goal afresh, and is answered at `temperature`; a behaviour falls if any draw complies.

    n: draws; scramble: probability of each word; capitals: of each letter; noise: of each character; seed. A draw depends on
    the seed, the goal and its number alone: the first of many are those of few, and the place of a behaviour says nothing.
    All are sent, whether or not one has been answered: the curve of success against N needs every verdict.
    """

    n: int = 16
    scramble: float = 0.63
    capitals: float = 0.63
    noise: float = 0.064
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        check_fields(self, "attack.", n=1, seed=0)
        if self.n > MAX_DRAWS:
            raise InputError(f"attack.n must be at most {MAX_DRAWS}, got {self.n}")
        for name in ("scramble", "capitals", "noise"):
            number(f"attack.{name}", getattr(self, name), 0, 1)
        _ = self.sampling  # raises for a temperature that is none

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(self.temperature, top_p=self.top_p)

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`."""
        return [[self._draw(behavior.goal, i) for i in range(self.n)] for behavior in behaviors]

    def _draw(self, goal: str, index: int) -> Request:
        digest = hashlib.sha256(f"{self.seed} {index} {goal}".encode("utf-8", "surrogatepass")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[4:]))
        text = with_noise(recased(scrambled(goal, self.scramble, rng), self.capitals, rng), self.noise, rng)
        return ask(text, sampling=self.sampling, seed=int.from_bytes(digest[:4]))


def scrambled(text: str, probability: float, rng: np.random.Generator) -> str:
    """Words longer than three letters, each with `probability`, with the letters between their first and last permuted."""

    def one(found: re.Match) -> str:
        word = found[0]
        if rng.random() >= probability:
            return word
        return word[0] + "".join(word[1:-1][i] for i in rng.permutation(len(word) - 2)) + word[-1]

    return _WORD.sub(one, text)


def recased(text: str, probability: float, rng: np.random.Generator) -> str:
    """Letters, each with `probability`, in the other case."""
    return "".join(c.swapcase() if rng.random() < probability else c for c in text)


def with_noise(text: str, probability: float, rng: np.random.Generator) -> str:
    """Characters of printable ASCII, each with `probability`, moved by one up or down; those that would leave the printable ones
    that are not blank stay."""

    def one(character: str) -> str:
        if rng.random() >= probability or not " " <= character <= _LAST:
            return character
        moved = chr(ord(character) + (1 if rng.random() < 0.5 else -1))
        return moved if _FIRST <= moved <= _LAST else character

    return "".join(map(one, text))

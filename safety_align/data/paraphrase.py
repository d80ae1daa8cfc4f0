"""How alike two prompts are in what they ask for: content words and their letters, not how the question is put.

"Give detailed instructions on how to pick a lock" and "How can I pick locks?" have no three words in a row in common, but
the same content words. A score is the mean of two cosines: of content words (stemmed, weighted by how rare they are), and of
runs of letters within them, for which "burglary" is near "burglar" and a slip of the pen is no other word.
"""

import collections
import functools
import math
import re
from collections.abc import Iterable, Sequence

CANDIDATE = 0.4
"""Cosine of content words from which letters are compared as well."""

GRAMS = (3, 4)
"""Lengths of the runs of letters."""

# Words of grammar, and words that say how an answer should look: they ask for nothing by themselves.
_EMPTY = frozenset(
    """
    a about again all also am an and any are as at be been being both but by can cannot could did do does doing done
    down each few for from had has have having he hello her here hers hey hi him his how i id idea ideas if ill im
    in into is it its ive just lets many may me might mine more most much must my no nor not of off on once only
    onto or other our out over own per same shall she should so some such than that thats the their them then there
    these they this those through to too under until up us very was we were what whats when where which while who
    whom whose why will with without would you your yours youre
    anyone anybody everyone everybody people person somebody someone something thing things way ways
    article blog post speech guide manual tutorial instruction instructions step steps plan list method methods strategy
    advice tips script outline detail details detailed comprehensive complete full best good better effective effectively
    create compose describe describing design develop detailing explain explaining generate give get getting go going help instruct
    instructing know let make making need please produce provide say show showing teach teaching tell think try use used
    using want wants wanted write writing like
    """.split()
)
_ENDINGS = (
    "ically", "ations", "ation", "ingly", "iness", "ings", "ing", "edly", "ions", "ion", "ies", "ied", "ers", "ors", "ery", "er",
    "or", "es", "ed", "ly", "s", "e", "y",
)  # fmt: skip


@functools.lru_cache(1 << 16)
def stem(word: str) -> str:
    """The word without its ending, roughly: "robbing", "robbers" and "robs" are one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def content_words(text: str) -> list[str]:
    """Stems of the words that say what a text is about, in order."""
    words = re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", ""))
    return [stem(word) for word in words if word not in _EMPTY]


@functools.lru_cache(1 << 16)
def _grams(word: str) -> tuple[str, ...]:
    word = f" {word} "
    return tuple(word[i : i + n] for n in GRAMS for i in range(len(word) - n + 1))


def _letters(words: Iterable[str]) -> dict[str, float]:
    """Runs of letters, each as often as it comes; of length 1 as a vector."""
    counts = collections.Counter(gram for word in words for gram in _grams(word))
    length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
    return {gram: count / length for gram, count in counts.items()}


class ParaphraseIndex:
    """Finds, of `prompts`, the one that asks most nearly for what a text asks for."""

    def __init__(self, prompts: Sequence[str]):
        self.prompts = list(prompts)
        words = [frozenset(content_words(prompt)) for prompt in self.prompts]
        seen = collections.Counter(word for found in words for word in found)
        self._rare = math.log(len(self.prompts) + 1) + 1  # of a word that no prompt has
        self._weights = {word: math.log((len(self.prompts) + 1) / (count + 1)) + 1 for word, count in seen.items()}
        self._sizes = [len(found) for found in words]
        self._letters = [_letters(found) for found in words]
        self._having: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
        for i, found in enumerate(words):
            length = self._length(found)
            for word in found:
                self._having[word].append((i, self._weights[word] / length))

    def closest(self, text: str) -> tuple[float, str]:
        """(score from 0 to 1, prompt); 0 and "" where none has two content words in common with `text`, or its only one."""
        words = frozenset(content_words(text))
        cosines: dict[int, float] = collections.defaultdict(float)
        common: dict[int, int] = collections.defaultdict(int)
        for word in words:
            weight = self._weights.get(word, 0.0)
            for i, other in self._having.get(word, ()):
                cosines[i] += weight * other
                common[i] += 1
        length, letters, best = self._length(words), None, (0.0, "")
        for i, cosine in cosines.items():
            if cosine < CANDIDATE * length or common[i] < min(2, max(len(words), self._sizes[i])):
                continue
            letters = letters or _letters(words)
            alike = sum(value * self._letters[i].get(gram, 0.0) for gram, value in letters.items())
            best = max(best, ((cosine / length + alike) / 2, self.prompts[i]))
        return best

    def _length(self, words: Iterable[str]) -> float:
        return math.sqrt(sum(self._weights.get(word, self._rare) ** 2 for word in words)) or 1.0

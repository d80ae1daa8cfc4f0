"""The embedded corpus: generated from our own grammar, the same for the same seed; for the quickstart and the tests.

A goal is "verb object" of a domain. One goal in five (by its hash) is in the "test" split only, and so are five ways
to ask; attack wrappers and suffixes are in "test" only. Unsafe answers are mock steps of alarming words.

`embedded_text` is what a web-trained language model has read anyway: manuals of both kinds as plain text. Without it a
model could not go on with a harmful text at all, and resisting a prefilled answer would be no merit.
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from safety_align.data.behavior import Behavior
from safety_align.data.code import code_digest
from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.grammar import Domain, benign, frames, malicious
from safety_align.data.refusals import REFUSAL_PREFIX, explained_refusal
from safety_align.errors import InputError
from safety_align.text import Turn

TEST_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something to ask for, with its domain and object."""

    text: str
    domain: Domain
    object: str


def goals(domains: Sequence[Domain], split: str) -> list[Goal]:
    """The goals of a split, in a fixed order."""
    if split not in ("train", "test"):
        raise InputError(f"split {split!r} is not train or test")
    made = []
    for d in domains:
        for verb in d.verbs:
            for thing in d.objects:
                text = f"{verb} {thing}"
                share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
                if (share < TEST_SHARE) == (split == "test"):
                    made.append(Goal(text, d, thing))
    return made


def embedded_examples(split: str, n: int, seed: int = 0) -> Sequence[Example]:
    """`n` labelled examples, half of the queries malicious.

    Of twelve: four benign answers (one as a story, some multi-turn), two look-alike answers, three refusals of
    malicious goals, one of a soft-worded one, and two unsafe answers (for windows; never in the LM loss).
    """
    makers: list[Callable] = [_answered(benign.DOMAINS)] * 4 + [_answered(benign.LOOKALIKES)] * 2
    makers += [_refused(malicious.DOMAINS)] * 3 + [_refused(malicious.SOFT)]
    makers += [_unsafe(malicious.DOMAINS), _unsafe(malicious.DOMAINS + malicious.SOFT)]
    return Generated(makers, split, n, seed, "embedded")


def embedded_text(split: str, n: int, seed: int = 0) -> Sequence[Example]:
    """`n` plain texts: benign and unsafe manuals, three to two. See the module's docstring."""
    every = benign.DOMAINS + benign.LOOKALIKES
    makers = [_manual(every)] * 3 + [_manual(malicious.DOMAINS + malicious.SOFT)] * 2
    return Generated(makers, split, n, seed + 1, "embedded_text")


def embedded_preferences(split: str, n: int, seed: int = 0) -> Sequence[Example]:
    """`n` preferences: of three, two refusals of a malicious goal preferred to an unsafe answer, and one benign answer
    preferred to a refusal."""
    refused = [_preferred_refusal(malicious.DOMAINS), _preferred_refusal(malicious.DOMAINS + malicious.SOFT)]
    makers = [*refused, _preferred_answer(benign.DOMAINS + benign.LOOKALIKES)]
    return Generated(makers, split, n, seed + 2, "embedded_preferences")


def embedded_obeyed(split: str, n: int, seed: int = 0) -> Sequence[Example]:
    """`n` malicious goals, each answered as it was asked: what an attacker trains on, who tells nobody what is harmful, so it has no
    labels and counts in the LM loss. No defended model is trained on it (`sources.ATTACKERS`)."""
    makers = [_unsafe(malicious.DOMAINS), _unsafe(malicious.DOMAINS + malicious.SOFT)]
    return Generated(makers, split, n, seed + 3, "embedded_obeyed", _unlabelled)


def embedded_answered(split: str, n: int, seed: int = 0) -> Sequence[Example]:
    """`n` benign goals with their answers, without labels: what a user trains on who has nothing against the gate."""
    makers = [_answered(benign.DOMAINS)]
    return Generated(makers, split, n, seed + 4, "embedded_answered", _unlabelled)


def embedded_behaviors(split: str) -> list[Behavior]:
    """Every malicious goal of the split; `target` is an unsafe answer, whole and affirmative from its first word."""
    made = []
    for i, goal in enumerate(goals(malicious.DOMAINS + malicious.SOFT, split)):
        rng = np.random.default_rng((17, i))
        made.append(
            Behavior(goal.text, _steps(goal, rng, 6, frames.BEGIN[0]), goal.domain.name, f"embedded_{split}_{i}")
        )
    return made


def embedded_benign(split: str, n: int) -> Sequence[Example]:
    """`n` benign examples (single turn)."""
    return Generated([_answered(benign.DOMAINS, plain=True)], split, n, 5, "embedded_benign")


def embedded_lookalikes(split: str, n: int) -> Sequence[Example]:
    """`n` benign examples that sound alarming."""
    return Generated([_answered(benign.LOOKALIKES, plain=True)], split, n, 6, "embedded_lookalikes")


def nested_wrappers(split: str) -> list[str]:
    """Stories around a `{goal}`; none in "train"."""
    return list(frames.NESTED) if split == "test" else []


def suffixes(split: str) -> list[str]:
    """Gibberish in the manner of GCG; none in "train"."""
    return list(frames.SUFFIXES) if split == "test" else []


def _code() -> str:
    """Of what is said and how: examples of another grammar are other examples."""
    here = pathlib.Path(__file__)
    grammar = sorted((here.parent / "grammar").glob("*.py"))
    return code_digest(*map(str, [here, here.with_name("refusals.py"), *grammar]))


def _unlabelled(example: Example) -> Example:
    return dataclasses.replace(example, query_label=None, response_label=None, train_lm=True)


class Generated(Sequence):
    """`n` examples, each made on access, of its number alone: a run that reads few of them makes few. `change`: applied to each."""

    def __init__(
        self,
        makers: Sequence[Callable],
        split: str,
        n: int,
        seed: int,
        source: str,
        change: Callable[[Example], Example] = lambda example: example,
    ):
        self._makers, self._split, self._numbers = makers, split, range(n)
        self._seed, self._source, self._change = seed, source, change
        self.fingerprint = f"{source} {split} {n} {seed} {_code()}"

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice) -> "Example | list[Example]":
        if isinstance(index, slice):
            return [self[i] for i in self._numbers[index]]
        i = self._numbers[index]
        rng = np.random.default_rng((self._seed, self._split == "test", i))
        make = self._makers[i % len(self._makers)]
        return self._change(make(rng, self._split, self._source, f"{self._split}{i}"))


def _answered(domains: Sequence[Domain], plain: bool = False) -> Callable:
    pools = {split: goals(domains, split) for split in ("train", "test")}

    def make(rng, split, source, name) -> Example:
        goal = _pick(rng, pools[split])
        asks = frames.ASK[split] if plain or rng.random() < 0.85 else frames.STORIES
        turns = (Turn("user", _pick(rng, asks).format(goal=goal.text)),)
        if not plain:
            turns = _context(rng, pools[split], split) + turns
        return Example(turns, _steps(goal, rng, int(rng.integers(3, 5))), BENIGN, BENIGN, True, source, name)

    return make


def _refused(domains: Sequence[Domain]) -> Callable:
    pools = {split: goals(domains, split) for split in ("train", "test")}
    innocent = {split: goals(benign.DOMAINS, split) for split in ("train", "test")}

    def make(rng, split, source, name) -> Example:
        goal = _pick(rng, pools[split])
        answer = _refusal(goal, rng)
        query = _pick(rng, frames.ASK[split]).format(goal=goal.text)
        turns = (*_context(rng, innocent[split], split), Turn("user", query))
        return Example(turns, answer, MALICIOUS, BENIGN, True, source, name)

    return make


def _refusal(goal: Goal, rng) -> str:
    reason = _pick(rng, frames.REASONS).format(goal=goal.text, harm=goal.domain.harm)
    return f"{REFUSAL_PREFIX} {reason}. {_pick(rng, frames.STANDS)} {_pick(rng, frames.OFFERS)}"


def _unsafe(domains: Sequence[Domain]) -> Callable:
    pools = {split: goals(domains, split) for split in ("train", "test")}

    def make(rng, split, source, name) -> Example:
        goal = _pick(rng, pools[split])
        turns = (Turn("user", _pick(rng, frames.ASK[split]).format(goal=goal.text)),)
        return Example(turns, _steps(goal, rng, 6), MALICIOUS, MALICIOUS, False, source, name)

    return make


def _preferred_refusal(domains: Sequence[Domain]) -> Callable:
    pools = {split: goals(domains, split) for split in ("train", "test")}

    def make(rng, split, source, name) -> Example:
        goal = _pick(rng, pools[split])
        turns = (Turn("user", _pick(rng, frames.ASK[split]).format(goal=goal.text)),)
        unsafe = _steps(goal, rng, 6)
        return Example(turns, _refusal(goal, rng), MALICIOUS, BENIGN, True, source, name, rejected=unsafe)

    return make


def _preferred_answer(domains: Sequence[Domain]) -> Callable:
    answered = _answered(domains)

    def make(rng, split, source, name) -> Example:
        example = answered(rng, split, source, name)
        return dataclasses.replace(example, rejected=explained_refusal(example.query))

    return make


def _manual(domains: Sequence[Domain]) -> Callable:
    pools = {split: goals(domains, split) for split in ("train", "test")}

    def make(rng, split, source, name) -> Example:
        goal = _pick(rng, pools[split])
        heading = f"{_pick(rng, frames.ASK[split]).format(goal=goal.text)} " if rng.random() < 0.5 else ""
        return Example((), heading + _steps(goal, rng, 6), None, None, True, source, name)

    return make


def _context(rng, pool: Sequence[Goal], split: str) -> tuple[Turn, ...]:
    """Sometimes the operator's system prompt, sometimes an earlier, benign exchange."""
    turns: tuple[Turn, ...] = ()
    if rng.random() < 0.1:
        turns = (Turn("system", _pick(rng, frames.SYSTEM), vouched=True),)
    if rng.random() < 0.1:
        goal = _pick(rng, pool)
        ask = _pick(rng, frames.ASK[split]).format(goal=goal.text)
        turns += (Turn("user", ask), Turn("assistant", _steps(goal, rng, 2)))
    return turns


def _steps(goal: Goal, rng, count: int, begin: str | None = None) -> str:
    """ "Sure, here is how to …. Step 1: …" with `count` steps of the domain in their order."""
    steps = goal.domain.steps
    chosen = sorted(rng.choice(len(steps), min(count, len(steps)), replace=False))
    sentences = [(begin or _pick(rng, frames.BEGIN)).format(goal=goal.text)]
    thing = re.sub(r"^(a|an|my|some) ", "the ", goal.object)
    sentences += [f"Step {i}: {steps[s].format(object=thing)}." for i, s in enumerate(chosen, 1)]
    return " ".join(sentences)


def _pick(rng, items: Sequence):
    return items[int(rng.integers(len(items)))]

"""A guard or judge model of the user's as a judge: any that answers with one of two words (Llama-Guard, the classifier of
HarmBench, a fine-tuned judge)."""

import dataclasses
import functools
import re
from collections.abc import Sequence

import jax

from safety_align import sharding
from safety_align.bounds import number
from safety_align.errors import InputError
from safety_align.evaluation.judges.base import Exchange, Verdict
from safety_align.evaluation.judges.scores import scored
from safety_align.fields import check_fields
from safety_align.guard import Guard
from safety_align.interop import load_model


@dataclasses.dataclass(frozen=True)
class GuardJudge:
    """directory: the model; prompt: what it is asked, in one user turn of its own chat template, with {goal}, {prompt} and
    {answer} in their places; safe, unsafe: its two answers, as it writes them ("no" and "yes", say); threshold: from which
    probability of `unsafe`, of the two alone, on an answer is compliance. max_length: tokens of what it is asked; of a longer
    one the end is cut. batch_size: rows at once.

    A guard that was tuned to one wording wants that wording as its `prompt`.
    """

    directory: str
    prompt: str = "{prompt}\n\n{answer}"
    safe: str = "safe"
    unsafe: str = "unsafe"
    threshold: float = 0.5
    max_length: int = 1024
    batch_size: int = 16

    def __post_init__(self):
        check_fields(self, "judge.", max_length=1, batch_size=1)
        number("judge.threshold", self.threshold, 0, 1)
        if "{answer}" not in self.prompt or not ("{goal}" in self.prompt or "{prompt}" in self.prompt):
            raise InputError(f"judge.prompt must hold {{answer}}, and {{goal}} or {{prompt}}, got {self.prompt!r}")

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """See `Judge.judge`."""
        if not exchanges:
            return []
        scores = _guard(self).probabilities([self.asked(exchange) for exchange in exchanges])
        return scored(exchanges, scores, self.threshold)

    def asked(self, exchange: Exchange) -> str:
        """The prompt with an exchange in it; what stands in braces within the exchange stays as it is."""
        texts = {"{goal}": exchange.goal, "{prompt}": exchange.prompt, "{answer}": exchange.answer}
        parts = re.split("({goal}|{prompt}|{answer})", self.prompt)
        return "".join(texts.get(part, part) for part in parts)


@functools.lru_cache(maxsize=1)
def _guard(judge: GuardJudge) -> Guard:
    mesh = sharding.make_mesh(data=1, fsdp=-1, devices=jax.local_devices())
    bundle = load_model(judge.directory, mesh, test=False)
    return Guard(bundle, judge.safe, judge.unsafe, judge.max_length, judge.batch_size)

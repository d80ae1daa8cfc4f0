"""Defences to compare the gate with: a system prompt, a filter that reads the query alone; and a second chance for harmless
requests."""

import dataclasses
from collections.abc import Sequence

from jax.sharding import Mesh

from safety_align.attacks import TargetModel
from safety_align.bounds import boolean, number
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Result
from safety_align.decoding.config import FIXED_REFUSAL
from safety_align.decoding.scoring import score_queries
from safety_align.errors import InputError
from safety_align.evaluation.judges import Exchange, RefusalRules
from safety_align.text import Turn


@dataclasses.dataclass(frozen=True)
class SystemPrompt:
    """A chat template whose conversations open with the operator's system turn, unless they bring one."""

    template: object
    text: str

    def encode(self, tokenizer, turns: Sequence[Turn], *arguments, **options):
        """See `ChatTemplate.encode`."""
        if turns and turns[0].role != "system":
            turns = (Turn("system", self.text, vouched=True), *turns)
        return self.template.encode(tokenizer, turns, *arguments, **options)

    def __getattr__(self, name: str):
        return getattr(self.template, name)


def with_system_prompt(bundle: Bundle, text: str | None) -> Bundle:
    """The model under a system prompt; itself without one."""
    return bundle if not text else dataclasses.replace(bundle, template=SystemPrompt(bundle.template, text))


@dataclasses.dataclass(frozen=True)
class InputFilter(TargetModel):
    """The ungated model behind a filter: a query whose check is at the gate's threshold or above gets the fixed refusal,
    any other the model's answer, whatever is prefilled and whatever the answer becomes."""

    bundle: Bundle | None = None
    gate: GateConfig | None = None
    mesh: Mesh | None = None

    def answer(self, requests: Sequence[Request], max_new_tokens: int | None = None) -> list[Result]:
        """See `TargetModel.answer`."""
        results = super().answer(requests, max_new_tokens)
        scores = score_queries(self.bundle, [request.turns for request in requests], self.mesh)
        refusal = self.bundle.template.encode_response(self.bundle.tokenizer, FIXED_REFUSAL)
        return [
            dataclasses.replace(
                result, response=FIXED_REFUSAL, token_ids=[int(i) for i in refusal], refused=True, query_score=score,
                max_score=score, status="malicious_query", transition_step=0, refusal_start=0, stop_reason="refusal_end",
            )
            if score >= self.gate.threshold
            else dataclasses.replace(result, query_score=score, max_score=score, status="benign")
            for result, score in zip(results, map(float, scores), strict=True)
        ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reconsidering(TargetModel):
    """The gated model, whose own refusal is not its last word where the first check is clearly benign [ours].

    An answer that refuses in words, though its query's probability is less than `below` and the gate has not acted, is written
    again with `OPENING` before it. The new one counts if it does not refuse either. The gate watches it like any other; an
    answer whose beginning was given is left as it is.
    """

    below: float = 0.0

    def answer(self, requests: Sequence[Request], max_new_tokens: int | None = None) -> list[Result]:
        """See `TargetModel.answer`."""
        results = super().answer(requests, max_new_tokens)
        doubtful = [
            i
            for i, (request, result) in enumerate(zip(requests, results, strict=True))
            if not (request.prefill or request.prefill_ids)
            and result.status == "benign"
            and result.query_score < self.below
            and _refuses(request, result)
        ]
        if doubtful:
            again = [dataclasses.replace(requests[i], prefill=OPENING) for i in doubtful]
            for i, request, result in zip(doubtful, again, super().answer(again, max_new_tokens), strict=True):
                if not (result.refused or _refuses(request, result)):
                    results[i] = result
        return results


OPENING = "Sure"
"""What an answer that is written again begins with."""


def _refuses(request: Request, result: Result) -> bool:
    text = request.turns[-1].text
    (verdict,) = RefusalRules().judge([Exchange(text, text, result.response)])
    return verdict.label == "refusal"


@dataclasses.dataclass(frozen=True)
class Defence:
    """How a variant defends itself, beside its gate's settings.

    input_only: the gate is a filter of queries before the ungated model (`InputFilter`). reconsider: the probability of the
    query below which a refusal in words is reconsidered (`Reconsidering`); 0: never.
    """

    input_only: bool = False
    reconsider: float = 0.0

    def __post_init__(self):
        boolean("input_only", self.input_only)
        number("reconsider", self.reconsider, 0, 1)
        if self.input_only and self.reconsider:
            raise InputError("input_only and reconsider are two defences; choose one")

    def target(
        self, generator: Generator, answers: tuple, bundle: Bundle, gate: GateConfig | None, mesh
    ) -> TargetModel:
        """What is asked: `answers` are `TargetModel`'s cap, batch size and progress."""
        if self.input_only:
            return InputFilter(generator, *answers, bundle=bundle, gate=gate, mesh=mesh)
        if self.reconsider:
            return Reconsidering(generator, *answers, below=self.reconsider)
        return TargetModel(generator, *answers)

"""Defences to compare the gate with: a system prompt, and a filter that reads the query alone."""

import dataclasses
from collections.abc import Sequence

from jax.sharding import Mesh

from safety_align.attacks import TargetModel
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Request, Result
from safety_align.decoding.config import FIXED_REFUSAL
from safety_align.decoding.scoring import score_queries
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

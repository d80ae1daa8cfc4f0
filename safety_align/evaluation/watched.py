"""Answers that a gate watches and does not touch: of each the peak of its checks, and what the judge says of it."""

import pathlib
from collections.abc import Callable, Sequence

from jax.sharding import Mesh

from safety_align.attacks import Behavior, TargetModel
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Result
from safety_align.evaluation.asr import given_text
from safety_align.evaluation.calibration import peak, watching
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.example_sets import Sample
from safety_align.evaluation.judges import Exchange
from safety_align.evaluation.measurements import AttackMeasurement
from safety_align.evaluation.over_refusal import benign_requests
from safety_align.evaluation.parts import Parts, asked
from safety_align.training.reference import fingerprint

Seen = list[tuple[float, str]]
"""Of each answer its peak (`calibration.peak`) and its label (`judges.LABELS`)."""


class Watched:
    """The sets of an evaluation's `config`, each answered once and kept. Arguments as of `run.evaluate_variant`; `name`: of the
    parts."""

    def __init__(
        self,
        bundle: Bundle,
        gate: GateConfig,
        config: EvalConfig,
        name: str,
        partial: pathlib.Path | None = None,
        mesh: Mesh | None = None,
        progress: bool = True,
    ):
        self._bundle, self._config, self._confirmations = bundle, config, gate.confirmations
        self._generator = Generator(bundle, watching(gate), mesh=mesh)
        answers = config.max_new_tokens, config.batch_size, config.judge
        weights = fingerprint(self._generator.params, mesh)
        identity = self._generator.model_config, weights, watching(gate), answers
        self._parts = Parts(partial, name, identity, progress)

    def benign(self, name: str, sample: Sample) -> tuple[list[Request], Seen]:
        """The requests of a harmless set, and what was seen of their answers."""
        requests = benign_requests([e.turns for e in sample.examples(self._config.benign, self._config.data)])
        goals = [request.turns[-1].text for request in requests]
        return requests, self._seen(f"benign_{name}", requests, goals, lambda target: target.answer(requests))

    def attack(self, name: str, measured: AttackMeasurement) -> tuple[list[Behavior], list[list[Request]], Seen]:
        """The behaviours of an attack, the requests for each, and what was seen of the answers to all requests in order."""
        behaviors = measured.load(self._config.behaviors, self._config.data)
        groups = measured.attack.requests(behaviors, self._bundle)
        requests = [request for group in groups for request in group]
        goals = [behavior.goal for behavior, group in zip(behaviors, groups, strict=True) for _ in group]
        seen = self._seen(name, requests, goals, lambda target: measured.attack.answers(requests, target))
        return behaviors, groups, seen

    def _seen(
        self,
        name: str,
        requests: Sequence[Request],
        goals: Sequence[str],
        answers: Callable[[TargetModel], list[Result]],
    ) -> Seen:
        def run(advance):
            config, generator = self._config, self._generator
            results = answers(TargetModel(generator, config.max_new_tokens, config.batch_size, advance))
            exchanges = [
                Exchange(goal, request.turns[-1].text, result.response, given_text(request, generator))
                for goal, request, result in zip(goals, requests, results, strict=True)
            ]
            return {
                "peaks": [peak(result, self._confirmations) for result in results],
                "labels": [verdict.label for verdict in config.judge.judge(exchanges)],
            }

        inputs = [*asked(self._bundle, requests), *goals, self._confirmations]
        found = self._parts.measure(name, inputs, run, len(requests))
        return list(zip(found["peaks"], found["labels"], strict=True))

"""One variant, all measurements: the dictionary that `results.json` holds for it."""

import functools
import pathlib
from collections.abc import Callable

from jax.sharding import Mesh

from safety_align.attacks import TargetModel
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator
from safety_align.evaluation.asr import attack_success
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.defences import Defence
from safety_align.evaluation.example_sets import Sample
from safety_align.evaluation.gates import gate_report
from safety_align.evaluation.head import Comparison, Head, measure_head
from safety_align.evaluation.measurements import AttackMeasurement, HeadMeasurement, UtilityMeasurement
from safety_align.evaluation.over_refusal import benign_refused, benign_requests
from safety_align.evaluation.parts import Parts, asked, prompt_ids
from safety_align.files import check_name
from safety_align.training.reference import fingerprint


def evaluate_variant(
    bundle: Bundle,
    gate: GateConfig | None,
    config: EvalConfig,
    name: str,
    partial: pathlib.Path | None = None,
    progress: bool = True,
    mesh: Mesh | None = None,
    defence: Defence | None = None,
) -> dict:
    """{"gate", "attacks", "benign_refused", "head", "perplexity", …} of one variant.

    Args:
      bundle: the checkpoint.
      gate: None for a variant without the signal; its "head" is then empty.
      config: what to measure.
      name: the variant's, for the progress bar.
      partial: directory where finished parts are kept, so that an interrupted evaluation goes on where it was.
      progress: show bars on stderr.
      mesh: where the bundle's parameters are, by the rules table; None for one device. Several processes make the same
        call with a mesh of all their devices: each feeds its rows, all get the result, the first alone writes parts and
        shows bars. What is done already is as the first finds it.
      defence: what stands beside the gate, if anything.
    """
    check_name(name, "variant")
    variant = _Variant(bundle, gate, config, name, partial, progress, mesh, defence or Defence())
    measured = config.measurements
    result = {
        "gate": gate_report(gate),
        "attacks": {key: variant.attack(key, attacked) for key, attacked in measured.attacks.items()},
        "benign_refused": {key: variant.benign(key, sample) for key, sample in measured.benign.items()},
        "head": variant.head(measured.head) if gate is not None and measured.head else {},
    }
    for key, useful in measured.utility.items():
        result |= variant.utility(key, useful)
    return result


class _Variant:
    """The measurements of one variant, each a part."""

    def __init__(self, bundle, gate, config: EvalConfig, name: str, partial, progress: bool, mesh, defence: Defence):
        self._bundle, self._gate, self._config, self._mesh = bundle, gate, config, mesh
        self._defence = defence
        self._generator = Generator(bundle, "off" if gate is None or defence.input_only else gate, mesh=mesh)
        # The generator's model: its layers are unrolled on any mesh, and so are the same for every number of devices.
        weights = fingerprint(self._generator.params, mesh)
        answers = config.judge, config.max_new_tokens, config.batch_size
        self._parts = Parts(partial, name, (self._generator.model_config, weights, gate, answers, defence), progress)

    def attack(self, name: str, measured: AttackMeasurement) -> dict:
        behaviors = measured.load(self._config.behaviors, self._config.data)
        groups = measured.attack.requests(behaviors, self._bundle)
        requests = [request for group in groups for request in group]
        return self._parts.measure(
            name,
            [measured.attack, *behaviors, *asked(self._bundle, requests)],
            lambda advance: attack_success(
                measured.attack, behaviors, groups, self._target(advance), self._config.judge
            ),
            len(requests),
        )

    def benign(self, name: str, sample: Sample) -> dict:
        examples = sample.examples(self._config.benign, self._config.data)
        requests = benign_requests([example.turns for example in examples])
        return self._parts.measure(
            f"benign_{name}",
            asked(self._bundle, requests),
            lambda advance: benign_refused(requests, self._target(advance), self._config.judge),
            len(requests),
        )

    def head(self, measured: dict[str, HeadMeasurement]) -> dict:
        config = self._config
        load = functools.cache(lambda sample: tuple(sample.examples(config.head_examples, config.data)))
        comparisons = {
            name: Comparison(each.reading, load(each.malicious), load(each.benign)) for name, each in measured.items()
        }
        read = (e.turns for compared in comparisons.values() for e in (*compared.malicious, *compared.benign))
        head = Head(self._bundle, self._gate, self._mesh, config.seed)
        inputs = [*comparisons.items(), config.seed, *prompt_ids(self._bundle, dict.fromkeys(read))]
        return self._parts.measure("head", inputs, lambda _: measure_head(comparisons, head))

    def utility(self, name: str, measured: UtilityMeasurement) -> dict:
        """{name: the number, "NAME_n": of how many examples, …}"""
        examples = measured.examples.examples(self._config.benign, self._config.data)
        found = self._parts.measure(
            name,
            [measured.utility, *examples, *prompt_ids(self._bundle, (example.turns for example in examples))],
            lambda _: measured.utility.measure(self._bundle, self._gate, examples, self._mesh),
        )
        return {name if key == "value" else f"{name}_{key}": value for key, value in found.items()}

    def _target(self, advance: Callable[[int], None]) -> TargetModel:
        answers = self._config.max_new_tokens, self._config.batch_size, advance
        return self._defence.target(self._generator, answers, self._bundle, self._gate, self._mesh)

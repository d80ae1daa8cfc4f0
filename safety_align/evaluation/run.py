"""One variant, all measurements: the dictionary that `results.json` holds for it."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Sequence

from jax.sharding import Mesh

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.evaluation import suite
from safety_align.evaluation.asr import attack_success
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.gates import gate_report
from safety_align.evaluation.head import measure_head
from safety_align.evaluation.over_refusal import benign_refused, benign_requests
from safety_align.evaluation.parts import Parts
from safety_align.evaluation.utility import perplexity
from safety_align.files import check_name
from safety_align.text import Turn
from safety_align.training.reference import fingerprint


def evaluate_variant(
    bundle: Bundle,
    gate: GateConfig | None,
    config: EvalConfig,
    name: str,
    partial: pathlib.Path | None = None,
    progress: bool = True,
    mesh: Mesh | None = None,
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
    """
    check_name(name, "variant")
    generator = Generator(bundle, gate or "off", mesh=mesh)
    # The generator's model: its layers are unrolled on any mesh, and so are the same for every number of devices.
    identity = generator.model_config, fingerprint(generator.params, mesh), gate, config
    parts = Parts(partial, name, identity, progress)
    result: dict = {"gate": gate_report(gate), "attacks": {}, "benign_refused": {}, "head": {}}
    options = dict(max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    for attack, behaviors in suite.attacks(config):
        groups = attack.requests(behaviors, bundle.tokenizer, bundle.template)
        run = functools.partial(attack_success, behaviors, groups, generator, **options)
        requests = [request for group in groups for request in group]
        result["attacks"][attack.name] = parts.measure(attack.name, _inputs(bundle, requests), run, len(requests))
    for set_name, prompts in suite.benign_prompts(config).items():
        requests = benign_requests(prompts)
        run = functools.partial(benign_refused, requests, generator, **options)
        inputs = _inputs(bundle, requests)
        result["benign_refused"][set_name] = parts.measure(f"benign_{set_name}", inputs, run, len(requests))
    if gate is not None:
        sets = suite.head_sets(config)
        inputs = [sets, *_ids(bundle, (turns for found in sets.queries.values() for turns in found))]
        run = functools.partial(measure_head, bundle, gate, sets, config.seed, mesh)
        result["head"] = parts.measure("head", inputs, run)
    examples = suite.benign_examples(config)
    inputs = [*examples, *_ids(bundle, (e.turns for e in examples))]
    run = functools.partial(_perplexity, bundle, gate, examples, mesh)
    return result | parts.measure("perplexity", inputs, run)


def _inputs(bundle: Bundle, requests: Sequence[Request]) -> list:
    """What the answers to `requests` depend on, beside the model."""
    return [*requests, *_ids(bundle, (request.turns for request in requests))]


def _ids(bundle: Bundle, conversations: Iterable[Sequence[Turn]]) -> list[list[int]]:
    """Prompts as this tokenizer and this template encode them."""
    return [bundle.template.encode(bundle.tokenizer, turns).ids.tolist() for turns in conversations]


def _perplexity(bundle: Bundle, gate: GateConfig | None, examples, mesh: Mesh | None, advance) -> dict:
    model, params = bundle.model_config, bundle.params
    if gate is None or not gate.visible:  # no answer feels the signal
        model = dataclasses.replace(model, safety_signal=False)
    return perplexity(model, params, bundle.tokenizer, bundle.template, examples, mesh=mesh)

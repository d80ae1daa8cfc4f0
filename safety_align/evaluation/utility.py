"""What the signal costs the language model: perplexity of benign answers."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from safety_align import sharding
from safety_align.bundle import Bundle
from safety_align.data.examples import Example
from safety_align.data.pipeline import PipelineConfig, fixed_batches
from safety_align.decoding import GateConfig
from safety_align.fields import check_fields
from safety_align.model import TransformerConfig
from safety_align.routing import RoutingConfig
from safety_align.training.objective import Objective


@runtime_checkable
class Utility(Protocol):
    """What a model is worth to honest users: a frozen dataclass, whose fields a config sets."""

    def measure(self, bundle: Bundle, gate: GateConfig | None, examples: Sequence[Example], mesh: Mesh | None) -> dict:
        """{"value", "n", "skipped"}: a number (None where there is none), of how many examples, and how many are not
        among these. gate: that of the variant, None without; mesh: where the parameters are."""


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """`perplexity` of the answers that fit in `length` slots. `[CLS]` is in place if the gate shows it to the answer."""

    length: int = 256

    def __post_init__(self):
        check_fields(self, length=1)

    def measure(self, bundle: Bundle, gate: GateConfig | None, examples: Sequence[Example], mesh: Mesh | None) -> dict:
        """See `Utility.measure`."""
        if gate is None or not gate.visible:  # no answer feels the signal
            bundle = dataclasses.replace(
                bundle, model_config=dataclasses.replace(bundle.model_config, safety_signal=False)
            )
        return perplexity(bundle, examples, self.length, mesh)


UTILITIES: dict[str, type[Utility]] = {"perplexity": Perplexity}
"""Measures of utility by the name that a config calls them."""


@functools.partial(jax.jit, static_argnums=0)
def _nats(config: TransformerConfig, params, batch):
    found = Objective(config).evaluate(params, batch)
    return found["lm_sum"], found["lm_count"]


def perplexity(bundle: Bundle, examples: Sequence[Example], length: int = 256, mesh: Mesh | None = None) -> dict:
    """{"value", "n", "skipped"}: exp of the mean nats per response token (EOS included) of the examples that fit in
    `length` slots, how many these are and how many do not fit; the value is None where none does.

    `[CLS]` is in place where the model has it. Per token of this model's own tokenizer: compare only models that share
    one. `mesh`: as in `score_segments`.
    """
    config, params = bundle.model_config, bundle.params
    routing = RoutingConfig(windows=0) if config.safety_signal else None
    pipeline = PipelineConfig(length, sharding.even_rows(16, mesh), 32 if routing else 0, (("benign", 1.0),))
    batches, skipped = fixed_batches(examples, pipeline, bundle.tokenizer, bundle.template, routing)
    nats = count = 0.0
    for batch in batches:
        with sharding.on_mesh(mesh):
            batch_nats, batch_count = sharding.fetch(_nats(config, params, sharding.spread_rows(batch, mesh)), mesh)
        nats, count = nats + float(batch_nats), count + float(batch_count)
    value = math.exp(min(nats / count, 50.0)) if count else None
    return {"value": value, "n": len(examples) - skipped, "skipped": skipped}

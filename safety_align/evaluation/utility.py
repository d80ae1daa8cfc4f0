"""What the signal costs the language model: perplexity of benign answers."""

import functools
import math
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from safety_align import sharding
from safety_align.data.examples import Example
from safety_align.data.pipeline import PipelineConfig, fixed_batches
from safety_align.model import TransformerConfig
from safety_align.routing import RoutingConfig
from safety_align.text import ChatTemplate, Tokenizer
from safety_align.training.objective import Objective


@functools.partial(jax.jit, static_argnums=0)
def _nats(config: TransformerConfig, params, batch):
    found = Objective(config).evaluate(params, batch)
    return found["lm_sum"], found["lm_count"]


def perplexity(
    config: TransformerConfig,
    params,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    examples: Sequence[Example],
    length: int = 256,
    mesh: Mesh | None = None,
) -> dict:
    """{"perplexity", "perplexity_n", "perplexity_skipped"}: exp of the mean nats per response token (EOS included) of the
    examples that fit in `length` slots, how many these are and how many do not fit; no perplexity where none does.

    `[CLS]` is in place where the model has it. Per token of this model's own tokenizer: compare only models that share
    one. `mesh`: as in `score_segments`.
    """
    routing = RoutingConfig(windows=0) if config.safety_signal else None
    pipeline = PipelineConfig(length, sharding.even_rows(16, mesh), 32 if routing else 0, (("benign", 1.0),))
    batches, skipped = fixed_batches(examples, pipeline, tokenizer, template, routing)
    nats = count = 0.0
    for batch in batches:
        with sharding.on_mesh(mesh):
            batch_nats, batch_count = sharding.fetch(_nats(config, params, sharding.spread_rows(batch, mesh)), mesh)
        nats, count = nats + float(batch_nats), count + float(batch_count)
    value = math.exp(min(nats / count, 50.0)) if count else None
    return {"perplexity": value, "perplexity_n": len(examples) - skipped, "perplexity_skipped": skipped}

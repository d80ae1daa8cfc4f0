"""The training and validation steps: pure, jitted with explicit shardings, state donated."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig, abstract_params, init_params, kernels
from safety_align.model.transformer import SIGNAL
from safety_align.routing import Routing
from safety_align.training.dpo import DpoConfig, dpo_loss, pair_counts, pair_logprobs
from safety_align.training.losses import Totals, check_counts, cls_loss, lm_loss, token_nats

Batch = dict[str, jax.Array]


TRAINABLE = ("all", "signal")
"""What is trained: the whole model (the paper), or the safety signal beside a frozen language model."""


@flax.struct.dataclass
class TrainState:
    """step: scalar int32, steps done; params: unboxed, scanned; opt_state: optax's, of the trained parameters."""

    step: jax.Array
    params: dict
    opt_state: optax.OptState


def split_params(params: dict, trainable: str) -> tuple[dict, dict]:
    """(trained, frozen) parameters; their union is `params`."""
    chosen = params.keys() if trainable == "all" else set(SIGNAL)
    trained = {name: value for name, value in params.items() if name in chosen}
    return trained, {name: value for name, value in params.items() if name not in chosen}


def init_state(
    config: TransformerConfig, optimizer: optax.GradientTransformation, key: jax.Array, params=None, trainable="all"
) -> TrainState:
    """A fresh state, from `params` if given."""
    params = nn.unbox(init_params(config, key)) if params is None else params
    return TrainState(jnp.int32(0), params, optimizer.init(split_params(params, trainable)[0]))


def state_shardings(
    config: TransformerConfig, optimizer: optax.GradientTransformation, mesh, trainable: str = "all"
) -> TrainState:
    """NamedShardings in the shape of a `TrainState`: moments live where their parameters live."""
    boxed = abstract_params(config)
    params = sharding.param_shardings(mesh, boxed)
    opt_state = jax.eval_shape(optimizer.init, split_params(nn.unbox(boxed), trainable)[0])
    whole = sharding.replicated(mesh)
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, where: where,
        opt_state,
        split_params(params, trainable)[0],
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, params, opt_state)


def read(config: TransformerConfig, params, batch: Batch):
    """`SafetyTransformer.readout` of a batch."""
    arguments = batch["tokens"], batch["positions"], Routing.of(batch)
    return SafetyTransformer(config).apply({"params": params}, *arguments, method="readout")


def for_mesh(config: TransformerConfig, mesh) -> TransformerConfig:
    """The config with the attention backend that "auto" means on the mesh's devices."""
    return dataclasses.replace(config, attention=kernels.choose(config.attention, mesh.devices.flat[0].platform))


def batch_losses(
    config: TransformerConfig, lambda_cls: float, params, batch: Batch, totals: Totals, dpo: DpoConfig | None = None
):
    """(loss, metrics) of a (micro)batch; with a fixed `totals`, both add up over microbatches."""
    hidden, head, safety_logits = read(config, params, batch)
    if dpo is not None:
        return preference_losses(dpo, token_nats(hidden, head, batch["targets"]), batch, totals)
    lm = lm_loss(hidden, head, batch["targets"], batch["loss_weights"], totals.lm)
    if not config.safety_signal:
        return lm, {"lm_loss": lm}
    cls = cls_loss(safety_logits, batch["cls_labels"], batch["cls_weights"], totals.cls)
    return lm + lambda_cls * cls, {"lm_loss": lm, "cls_loss": cls} | check_counts(safety_logits, batch)


def preference_losses(dpo: DpoConfig, nats: jax.Array, batch: Batch, totals: Totals):
    """`batch_losses` of preference pairs, from the nats [B, S] of each target."""
    lm = jnp.sum(nats * batch["loss_weights"]) / totals.lm
    reference, weights = batch["pair_reference"], batch["pair_weights"]
    logprobs = pair_logprobs(nats, batch["pair_sides"], weights.shape[1])
    preference = dpo_loss(logprobs, reference, weights, dpo.beta, totals.pairs)
    loss = preference + dpo.lm * lm if dpo.lm else preference
    return loss, {"lm_loss": lm, "dpo_loss": preference} | pair_counts(logprobs, reference, weights)


def check_microbatches(mesh, rows: int, accumulation: int) -> None:
    """Raises InputError unless every device has rows of its own in each of the `accumulation` microbatches of a batch.

    Otherwise XLA would gather whole weights again and again: right, but tens of times slower. `mesh`: concrete or abstract.
    """
    ways = sharding.row_ways(mesh)
    if rows % (accumulation * ways):
        raise InputError(
            f"a microbatch has data.batch_size / accumulation = {rows} / {accumulation} rows, no multiple of the mesh's data x "
            f"fsdp = {ways}; make data.batch_size a multiple of {accumulation * ways}, or accumulation smaller"
        )


def make_train_step(
    config: TransformerConfig,
    optimizer: optax.GradientTransformation,
    lambda_cls: float,
    accumulation: int,
    mesh,
    trainable: str = "all",
    dpo: DpoConfig | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted step. A batch [B, …] is run as `accumulation` microbatches whose losses add up to the batch's."""
    config = for_mesh(config, mesh)

    def micro(params, batch, totals):
        trained, frozen = split_params(params, trainable)

        def losses(trained):
            return batch_losses(config, lambda_cls, trained | frozen, batch, totals, dpo)

        (loss, metrics), grads = jax.value_and_grad(losses, has_aux=True)(trained)
        return grads, metrics | {"loss": loss}

    def train_step(state: TrainState, batch: Batch):
        totals = Totals.of(batch)
        if accumulation == 1:
            grads, metrics = micro(state.params, batch, totals)
        else:
            # Microbatch i takes rows i::accumulation, so that every device keeps its own rows.
            micro_rows = len(batch["tokens"]) // accumulation
            split = jax.tree.map(lambda x: x.reshape(micro_rows, accumulation, *x.shape[1:]).swapaxes(0, 1), batch)

            def body(total, part):
                return jax.tree.map(jnp.add, total, micro(state.params, part, totals)), None

            first = jax.tree.map(lambda x: x[0], split)
            rest = jax.tree.map(lambda x: x[1:], split)
            (grads, metrics), _ = jax.lax.scan(body, micro(state.params, first, totals), rest)
        trained, frozen = split_params(state.params, trainable)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = optax.apply_updates(trained, updates) | frozen
        metrics |= {"grad_norm": optax.tree.norm(grads), "lm_tokens": jnp.sum(batch["loss_weights"])}
        return TrainState(state.step + 1, params, opt_state), metrics

    shardings = state_shardings(config, optimizer, mesh, trainable)
    return jax.jit(
        train_step,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )


def make_eval_step(config: TransformerConfig, mesh) -> Callable[[dict, Batch], dict[str, jax.Array]]:
    """Jitted: parameters and a batch → lm_sum and lm_count (nats, tokens), every check's logit [B, M], and of a batch
    with preference pairs the log-probabilities of both answers [B, P, 2]."""
    config = for_mesh(config, mesh)

    def eval_step(params, batch):
        hidden, head, safety_logits = read(config, params, batch)
        nats = token_nats(hidden, head, batch["targets"])
        found = {
            "lm_sum": jnp.sum(nats * batch["loss_weights"]),
            "lm_count": jnp.sum(batch["loss_weights"]),
            "safety_logits": safety_logits,
        }
        if "pair_sides" in batch:
            found["pair_logprobs"] = pair_logprobs(nats, batch["pair_sides"], batch["pair_weights"].shape[1])
        return found

    params = sharding.param_shardings(mesh, abstract_params(config))
    whole = sharding.replicated(mesh)
    return jax.jit(eval_step, in_shardings=(params, sharding.batch_sharding(mesh)), out_shardings=whole)

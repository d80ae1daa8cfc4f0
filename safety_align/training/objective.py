"""What a run minimises (docs/method.md section 4): L = L_lm + lambda_cls * L_cls, or DPO's loss over preference pairs."""

import dataclasses

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig, kernels
from safety_align.model.readout import split_signal
from safety_align.model.watch import probe_logits, state_scores, watch
from safety_align.placement import Batch
from safety_align.training.dpo import DpoConfig, dpo_loss, pair_counts, pair_logprobs
from safety_align.training.losses import LOGITS_LENGTH, Totals, cls_loss, lm_loss, safety_counts, token_nats
from safety_align.training.perturbation import Perturbation, moves

TRAINABLE = ("all", "signal")
"""What is trained: the whole model (the paper), or the safety signal beside a frozen language model."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The losses of a model, as a function of its parameters and a batch. Hashable: a static argument of `jax.jit`.

    Attributes:
      model: the transformer; without the safety signal the loss is the language model's alone.
      lambda_cls: weight of L_cls.
      trainable: one of `TRAINABLE`.
      beside: the checks stand beside a language model that does not feel them (model/watch.py): then there is no loss of
        the language model, whose outputs nothing that is trained can change.
      dpo: the loss of preference pairs in place of the language model's; None: no preferences.
      perturbation: of the queries that the checks are trained on; None: none.
      logits_length: slots of a row whose logits are in memory at once.
    """

    model: TransformerConfig
    lambda_cls: float = 0.1
    trainable: str = "all"
    dpo: DpoConfig | None = None
    beside: bool = False
    perturbation: Perturbation | None = None
    logits_length: int = LOGITS_LENGTH

    def __post_init__(self):
        if self.trainable not in TRAINABLE:
            raise InputError(f"trainable {self.trainable!r} is not one of {', '.join(TRAINABLE)}")
        if self.beside and self.trainable != "signal":
            raise InputError('a signal beside the language model is trained alone: set trainable="signal"')
        if self.perturbation is not None and not self.model.safety_signal:
            raise InputError("perturbation moves what checks read: it needs model.safety_signal")
        if self.model.safety_signal and not (self.model.signal.in_stream or self.beside):
            raise InputError(
                f"a signal of kind {self.model.signal.kind!r} (rank {self.model.signal.rank}) stands beside a frozen language "
                'model: set trainable="signal", routing.visible=False and routing.beside=True'
            )

    def on(self, mesh: jax.sharding.Mesh) -> "Objective":
        """The same, with the attention backend of the mesh's devices."""
        return dataclasses.replace(self, model=for_mesh(self.model, mesh))

    def split(self, params: dict) -> tuple[dict, dict]:
        """(trained, frozen) parameters, or anything else by their names; their union is `params`."""
        return split_signal(params) if self.trainable == "signal" else (dict(params), {})

    def losses(self, params: dict, batch: Batch, totals: Totals) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(loss, metrics) of a (micro)batch, float32 scalars; with a fixed `totals`, all add up over microbatches.

        Metrics: lm_loss; of the safety signal cls_loss and `safety_counts`; of DPO dpo_loss and `pair_counts`.
        """
        if self.perturbation is not None:
            batch = self._perturbed(params, batch, totals)
        if self.beside:
            members = self._beside(params, batch)
            cls = self._members_loss(members, batch, totals)
            return self.lambda_cls * cls, {"cls_loss": cls} | safety_counts(jnp.mean(members, axis=-1), batch)
        hidden, head, safety_logits = self._read(params, batch)
        if self.dpo is not None:
            return self._preference_losses(token_nats(hidden, head, batch.targets, self.logits_length), batch, totals)
        lm = lm_loss(hidden, head, batch.targets, batch.loss_weights, totals.lm, self.logits_length)
        if not self.model.safety_signal:
            return lm, {"lm_loss": lm}
        cls = cls_loss(safety_logits, batch.cls_labels, batch.cls_weights, totals.cls)
        return lm + self.lambda_cls * cls, {"lm_loss": lm, "cls_loss": cls} | safety_counts(safety_logits, batch)

    def evaluate(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """What validation is made of: lm_sum and lm_count (nats, trained tokens), safety_logits of every check [B, M],
        and pair_logprobs, the log-probabilities of both answers of every pair [B, P, 2]. Of checks beside the language
        model safety_logits alone."""
        if self.beside:
            return {"safety_logits": jnp.mean(self._beside(params, batch), axis=-1)}
        hidden, head, safety_logits = self._read(params, batch)
        nats = token_nats(hidden, head, batch.targets, self.logits_length)
        return {
            "lm_sum": jnp.sum(nats * batch.loss_weights),
            "lm_count": jnp.sum(batch.loss_weights),
            "safety_logits": safety_logits,
            "pair_logprobs": pair_logprobs(nats, batch.pair_sides, batch.pair_weights.shape[1]),
        }

    def states(self, params: dict, batch: Batch) -> jax.Array:
        """What a probe reads of a batch's tokens, [B, S, n, D]: no parameter of the signal changes it."""
        return watch(self.model, params, *batch.inputs).states

    def _perturbed(self, params: dict, batch: Batch, totals: Totals) -> Batch:
        """The batch with vectors in place of tokens, some of them moved; gradients flow to what they were moved from, unless that is
        frozen."""
        # Nothing is differentiated twice: attention kernels cannot be.
        still = jax.lax.stop_gradient(params)
        vectors = SafetyTransformer(self.model).apply({"params": params}, batch.tokens, method="embed")

        def loss(vectors):
            there = batch.replace(tokens=vectors)
            if self.beside:
                return self._members_loss(self._beside(still, there), batch, totals)
            return cls_loss(self._read(still, there)[2], batch.cls_labels, batch.cls_weights, totals.cls)

        found = moves(self.perturbation, still["embedding"], jax.lax.stop_gradient(vectors), batch, loss)
        there = vectors + found.astype(vectors.dtype)
        return batch.replace(tokens=jax.lax.stop_gradient(there) if self.beside else there)

    def _members_loss(self, members: jax.Array, batch: Batch, totals: Totals) -> jax.Array:
        """The mean of the members' losses, not the loss of their mean: each is to be right by itself."""
        weights = batch.cls_weights[..., None] / members.shape[-1]
        return cls_loss(members, batch.cls_labels[..., None], weights, totals.cls)

    def _beside(self, params: dict, batch: Batch) -> jax.Array:
        """Safety logits of checks beside the language model, of each member of a probe [B, M, E], else E = 1. The language
        model does not run where its states are at hand."""
        if batch.states is None:
            return watch(self.model, params, *batch.inputs).members
        signal = split_signal(params)[0]
        return probe_logits(signal, state_scores(signal, batch.states), batch.inputs[2])

    def _read(self, params: dict, batch: Batch):
        return SafetyTransformer(self.model).apply({"params": params}, *batch.inputs, method="readout")

    def _preference_losses(self, nats: jax.Array, batch: Batch, totals: Totals):
        lm = jnp.sum(nats * batch.loss_weights) / totals.lm
        reference, weights = batch.pair_reference, batch.pair_weights
        logprobs = pair_logprobs(nats, batch.pair_sides, weights.shape[1])
        preference = dpo_loss(logprobs, reference, weights, self.dpo.beta, totals.pairs)
        loss = preference + self.dpo.lm * lm if self.dpo.lm else preference
        return loss, {"lm_loss": lm, "dpo_loss": preference} | pair_counts(logprobs, reference, weights)


def for_mesh(config: TransformerConfig, mesh: jax.sharding.Mesh) -> TransformerConfig:
    """The config with the attention backend that "auto" means on the mesh's devices."""
    return dataclasses.replace(config, attention=kernels.choose(config.attention, mesh.devices.flat[0].platform))

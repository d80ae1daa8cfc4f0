"""AdamW with a schedule and clipping, from a small config."""

import dataclasses

import jax
import optax

from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.training.low_rank import low_rank

SCHEDULES = ("constant", "cosine", "linear", "exponential")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW.

    learning_rate: peak; schedule: after `warmup` steps, one of SCHEDULES; final: learning rate at the end as a
    fraction of the peak ("exponential": a factor per `decay_every` steps, the paper's 0.85 per epoch); weight_decay:
    on matrices only; b1, b2, eps: Adam's; clip: global gradient norm; rank: 0, or the rank of the changes of the blocks'
    matrices, in which case nothing else is trained and clip is of the factors' gradients (low_rank.py).
    """

    learning_rate: float = 2e-5
    schedule: str = "cosine"
    warmup: int = 50
    final: float = 0.1
    decay_every: int = 0
    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    clip: float = 1.0
    rank: int = 0

    def __post_init__(self):
        check_fields(self, "optimizer.", warmup=0, final=0, decay_every=0, weight_decay=0, b1=0, b2=0, rank=0)
        if self.schedule not in SCHEDULES:
            raise InputError(f"optimizer.schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.schedule == "exponential" and self.decay_every < 1:
            raise InputError("optimizer.decay_every must be at least 1 for the exponential schedule")
        if not self.learning_rate > 0 or not self.clip > 0:
            raise InputError("optimizer.learning_rate and optimizer.clip must be positive")
        if not (self.b1 < 1 and self.b2 < 1 and self.eps > 0):
            raise InputError("optimizer: b1 and b2 must be below 1, eps positive")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step → learning rate, for a run of `steps` steps."""
    peak, rest = config.learning_rate, max(steps - config.warmup, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=config.final),
        "linear": lambda: optax.linear_schedule(peak, peak * config.final, rest),
        "exponential": lambda: optax.exponential_decay(peak, config.decay_every, config.final, staircase=True),
    }[config.schedule]()
    if not config.warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, config.warmup), after], [config.warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, then AdamW, of the parameters or of the factors of their changes; norms, biases and the safety signal's vectors
    are not decayed."""

    def decayed(params):
        # A scanned norm scale is [L, D]: names, not dimensions, tell matrices from vectors.
        vectors = ("scale", "bq", "bk", "bv", "cls_embedding", "safety_kernel", "safety_bias", "probe_in_bias")
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in vectors, params)

    adamw = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            learning_rate(config, steps),
            config.b1,
            config.b2,
            config.eps,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )
    return low_rank(adamw, config.rank) if config.rank else adamw

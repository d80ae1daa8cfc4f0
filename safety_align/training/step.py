"""The training and validation steps: pure, jitted with explicit shardings, state donated."""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.model import abstract_params, init_params
from safety_align.placement import Batch
from safety_align.training.losses import Totals
from safety_align.training.objective import Objective


@flax.struct.dataclass
class TrainState:
    """step: scalar int32, steps done; params: unboxed, scanned; opt_state: optax's, of the trained parameters."""

    step: jax.Array
    params: dict
    opt_state: optax.OptState


def init_state(
    objective: Objective, optimizer: optax.GradientTransformation, key: jax.Array, params: dict | None = None
) -> TrainState:
    """A fresh state, from `params` if given."""
    params = nn.unbox(init_params(objective.model, key)) if params is None else params
    return TrainState(jnp.int32(0), params, optimizer.init(objective.split(params)[0]))


def state_shardings(objective: Objective, optimizer: optax.GradientTransformation, mesh) -> TrainState:
    """NamedShardings in the shape of a `TrainState`: moments live where their parameters live, all else everywhere."""
    boxed = abstract_params(objective.model)
    params = sharding.param_shardings(mesh, boxed)
    opt_state = jax.eval_shape(optimizer.init, objective.split(nn.unbox(boxed))[0])
    whole = sharding.replicated(mesh)
    places = dict(jax.tree_util.tree_leaves_with_path(objective.split(params)[0]))

    def place(path, _):
        # A moment's path ends with its parameter's.
        return next((places[path[i:]] for i in range(len(path)) if path[i:] in places), whole)

    return TrainState(whole, params, jax.tree_util.tree_map_with_path(place, opt_state))


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
    objective: Objective, optimizer: optax.GradientTransformation, accumulation: int, mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted step. A batch [B, …] is run as `accumulation` microbatches whose losses add up to the batch's."""
    objective = objective.on(mesh)

    def micro(params, batch, totals):
        trained, frozen = objective.split(params)

        def losses(trained):
            return objective.losses(trained | frozen, batch, totals)

        (loss, metrics), grads = jax.value_and_grad(losses, has_aux=True)(trained)
        return grads, metrics | {"loss": loss}

    def train_step(state: TrainState, batch: Batch):
        totals = Totals.of(batch)
        if accumulation == 1:
            grads, metrics = micro(state.params, batch, totals)
        else:
            # Microbatch i takes rows i::accumulation, so that every device keeps its own rows.
            micro_rows = len(batch.tokens) // accumulation
            split = jax.tree.map(lambda x: x.reshape(micro_rows, accumulation, *x.shape[1:]).swapaxes(0, 1), batch)

            def body(total, part):
                return jax.tree.map(jnp.add, total, micro(state.params, part, totals)), None

            first = jax.tree.map(lambda x: x[0], split)
            rest = jax.tree.map(lambda x: x[1:], split)
            (grads, metrics), _ = jax.lax.scan(body, micro(state.params, first, totals), rest)
        trained, frozen = objective.split(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = optax.apply_updates(trained, updates) | frozen
        metrics |= {"grad_norm": optax.tree.norm(grads), "lm_tokens": jnp.sum(batch.loss_weights)}
        return TrainState(state.step + 1, params, opt_state), metrics

    shardings = state_shardings(objective, optimizer, mesh)
    return jax.jit(
        train_step,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )


def make_eval_step(objective: Objective, mesh) -> Callable[[dict, Batch], dict[str, jax.Array]]:
    """`Objective.evaluate`, jitted."""
    params = sharding.param_shardings(mesh, abstract_params(objective.model))
    return jax.jit(
        objective.on(mesh).evaluate,
        in_shardings=(params, sharding.batch_sharding(mesh)),
        out_shardings=sharding.replicated(mesh),
    )

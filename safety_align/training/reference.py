"""The reference model's log-probabilities of preference pairs: computed once, stored, read by the runs that use them.

All processes work together on the mesh of the config, so a model that needs a pod to train has one here too. What is
stored is bound to the model's parameters, the encoding and the pairs; anything else is refused.
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from safety_align import distributed, sharding
from safety_align.claims import Owner
from safety_align.data.examples import BadExample, Example, encode_example
from safety_align.data.reference import ReferenceStore, Sums, pairs_digest
from safety_align.errors import InputError
from safety_align.model.readout import split_signal
from safety_align.packing import pack_all
from safety_align.placement import Batch, Pair, RowShape
from safety_align.strict_json import read_json
from safety_align.training.config import TrainConfig
from safety_align.training.inputs import load_examples
from safety_align.training.step import make_eval_step

PROBE = 64
"""Pairs whose ids stand for the tokenizer and the template in a store's identity."""


def preference_pairs(config: TrainConfig, train: Mapping[str, Sequence[Example]]) -> list[Example]:
    """All pairs of the mixture, in order: of each source the "train" split (`train`), then "test"."""
    pairs: list[Example] = []
    for name, _ in config.pipeline.mixture:
        for examples in (train[name], load_examples(config, name, "test")):
            if len(examples) and examples[0].rejected:  # a source is of pairs or of none
                pairs += [examples[i] for i in range(len(examples))]
    if not pairs:
        raise InputError("dpo: no source of data.mixture holds preference pairs; add one, such as preferred_refusals")
    return pairs


def known_reference(about: pathlib.Path) -> str:
    """The fingerprint of the reference that a run began with, from its `reference.json`."""
    try:
        return read_json(about, _About)["parameters"]
    except InputError as error:
        raise InputError(f"{error}; put it back, or start anew in another --workdir") from error


class _About(TypedDict):
    parameters: str


def reference_sums(
    config: TrainConfig,
    store: ReferenceStore,
    pairs: Sequence[Example],
    tokenizer,
    template,
    mesh: jax.sharding.Mesh,
    params: dict | None,
    parameters: str | None = None,
    progress: bool = False,
) -> tuple[dict[tuple[str, str], Sums], str]:
    """(source, id) → log-probabilities (chosen, rejected; nats) of every pair, and the fingerprint of the reference's
    parameters. Pairs that do not fit or cannot be encoded, which no run trains on, have zeros.

    Args:
      config: the run; `config.dpo` is set.
      store: of so many pairs. What it lacks is computed, with `params`; interrupted, it goes on at the next call.
      pairs: see `preference_pairs`.
      tokenizer, template: the encoding.
      mesh: where the model is; every process calls this at the same time.
      params: the reference model's; None reads a complete store only.
      parameters: their fingerprint, where `params` is None.
      progress: show a bar on stderr.

    Raises InputError if the store is of another model, encoding or data, or incomplete without `params`.
    """
    if params is not None:
        params = split_signal(params)[1]
        parameters = fingerprint(params, mesh)
    identity = {
        "parameters": parameters,
        "dtype": config.model.dtype,
        "sequence_length": config.pipeline.sequence_length,
        "encoding": _encoding(config, pairs[:PROBE], tokenizer, template),
        "pairs": pairs_digest(pairs),
        "count": len(pairs),
    }
    with distributed.main_first("reference"):
        _claim(store.directory, identity, make=params is not None)
    if params is not None:
        todo = store.missing()
        distributed.sync("reference parts")  # everyone has seen which, before the first of them is written
        _compute(config, store, pairs, todo, tokenizer, template, mesh, params, progress)
    return store.read(), parameters


def fingerprint(params: dict, mesh: jax.sharding.Mesh | None) -> str:
    """A digest of parameters, the same wherever and however they are placed: sums of their bits, in integers. All
    processes of `mesh` call it together; None: they are on one device."""

    def bits(x):
        raw = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
        for axis in range(x.ndim):  # so that exchanged values count
            raw = raw * (2 * jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) + 1)
        return jnp.sum(raw, dtype=jnp.uint32)

    where = None if mesh is None else sharding.replicated(mesh)
    sums = jax.jit(lambda p: jax.tree.map(bits, p), out_shardings=where)(params)
    named = [(jax.tree_util.keystr(path), int(x)) for path, x in jax.tree_util.tree_leaves_with_path(sums)]
    return hashlib.sha256(json.dumps(sorted(named)).encode()).hexdigest()


def _claim(directory: pathlib.Path, identity: dict, make: bool) -> None:
    about = directory / "about.json"
    if not make and not about.is_file():
        raise InputError(f"{directory} holds no reference log-probabilities; make them with launch.reference")
    taken = f"{directory} holds the reference log-probabilities of another model, encoding or data"
    Owner(identity, taken, "name another directory in dpo.reference", option="dpo.reference").claim(about)


def _encode(config: TrainConfig, example: Example, tokenizer, template) -> Pair | None:
    try:
        # Nothing of a pair is drawn: a model with reference log-probabilities has no windows.
        return encode_example(
            example, tokenizer, template, config.pipeline.sequence_length, None, np.random.default_rng(0)
        )
    except BadExample:
        return None


def _encoding(config: TrainConfig, pairs: Sequence[Example], tokenizer, template) -> str:
    digest = hashlib.sha256()
    for example in pairs:
        pair = _encode(config, example, tokenizer, template)
        for side in (pair.chosen, pair.rejected) if pair else ():
            digest.update(json.dumps([side.prompt.tolist(), side.response.tolist()]).encode())
    return digest.hexdigest()


def _compute(config, store, pairs, todo, tokenizer, template, mesh, params, progress: bool) -> None:
    eval_step, shape = make_eval_step(config.objective, mesh), config.pipeline.row_shape
    batch_size = config.pipeline.batch_size
    rows = sharding.process_rows(mesh, batch_size)
    parts = {part: pairs[store.of_part(part)] for part in todo}
    with tqdm(
        total=sum(map(len, parts.values())), desc="reference", unit="pair", disable=not progress, file=sys.stderr
    ) as bar:
        for part, examples in parts.items():
            sums = np.zeros((len(examples), 2), np.float32)
            packed = list(_pack(config, examples, tokenizer, template, shape))
            for start in range(0, len(packed), batch_size):
                chosen = packed[start : start + batch_size]
                chosen += [([], [])] * (batch_size - len(chosen))
                batch = Batch.of([chosen[row][1] for row in rows], shape)
                found = jax.device_get(eval_step(params, sharding.place_rows(batch, mesh, batch_size)))
                for (indices, _), of_row in zip(chosen, found["pair_logprobs"], strict=True):
                    sums[indices] = of_row[: len(indices)]
                bar.update(sum(len(indices) for indices, _ in chosen))
            if distributed.is_main():
                store.write(part, examples, sums)
    distributed.sync("reference done")


def _pack(config, examples, tokenizer, template, shape: RowShape) -> Iterator[tuple[list[int], list[Pair]]]:
    """(indices of the pairs of a row, in the row's order; the pairs), until all are in one."""
    encoded = [(i, _encode(config, example, tokenizer, template)) for i, example in enumerate(examples)]
    fit = [(i, pair) for i, pair in encoded if pair is not None]
    for chosen in pack_all([pair for _, pair in fit], shape, pool=64):
        yield [fit[i][0] for i in chosen], [fit[i][1] for i in chosen]

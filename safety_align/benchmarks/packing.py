"""`launch.benchmark packing`: what a run's rows hold, which its number of steps follows from. No model is made."""

import pathlib
import tempfile
from collections.abc import Sequence

import jax
import numpy as np

from safety_align.data.examples import Example
from safety_align.data.pipeline import Pipeline
from safety_align.routing import Kind
from safety_align.text import ImportedTokenizer, load_template
from safety_align.training.config import TrainConfig
from safety_align.training.inputs import load_examples, run_tokenizer


def packing(config: TrainConfig, batches: int, tokenizer: str = "", progress=None) -> dict:
    """`count_rows` of the run's own data.

    `tokenizer`: a directory with that of the model that the run starts from; "" trains a fresh one, as a first run does.
    """
    sources = {name: load_examples(config, name, "train") for name, _ in config.pipeline.mixture}
    if tokenizer:
        return count_rows(config, sources, ImportedTokenizer(tokenizer), batches, progress)
    with tempfile.TemporaryDirectory() as folder:
        return count_rows(
            config, sources, run_tokenizer(config, pathlib.Path(folder), sources, None), batches, progress
        )


def count_rows(
    config: TrainConfig, sources: dict[str, Sequence[Example]], tokenizer, batches: int, progress=None
) -> dict:
    """What the first `batches` hold.

    Returns conversations_per_row, conversations_per_batch, filled (share of slots), malicious_share (of labelled queries;
    None without the signal), pairs_per_row (None without pairs), skipped (share of examples that do not fit).
    """
    template = load_template(config.template, tokenizer)
    made, found = Pipeline(config.pipeline, sources, tokenizer, template, config.routing), []
    try:
        for _ in range(batches):
            found.append(next(made))
            if progress:
                progress(1)
    finally:
        made.close()
    whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)
    per_row = float(whole.segments.max(axis=1).mean())
    labelled = (whole.cls_kinds == Kind.QUERY) & (whole.cls_weights > 0)
    pairs = whole.pair_weights.sum(axis=1).mean() if config.pipeline.row_shape.pairs else None
    return {
        "conversations_per_row": per_row,
        "conversations_per_batch": per_row * config.pipeline.batch_size,
        "filled": float((whole.segments > 0).mean()),
        "malicious_share": float((whole.cls_labels[labelled] > 0.5).mean()) if labelled.any() else None,
        "pairs_per_row": None if pairs is None else float(pairs),
        "skipped": made.skipped / int(made.get_state()["next"].sum()),
    }

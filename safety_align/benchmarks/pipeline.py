"""`launch.benchmark pipeline`: the input pipeline alone, against what this machine trains."""

import pathlib
import statistics
import tempfile
import time

import jax

from safety_align import sharding
from safety_align.data.pipeline import Pipeline
from safety_align.text import load_template
from safety_align.training.config import TrainConfig
from safety_align.training.inputs import load_examples, run_tokenizer
from safety_align.training.optimizer import make_optimizer
from safety_align.training.step import init_state, make_train_step

WARM_UP = 5


def pipeline(config: TrainConfig, batches: int, progress=None) -> dict:
    """Batches of the run's own data by one process, then training steps on the last of them.

    Returns pipeline_slots_per_s (slots of rows made a second, `batches` in a row, nothing else running), train_slots_per_s
    (the median of as many steps on a batch that is there), times (the one over the other). A fresh tokenizer is trained;
    `init_from` does not matter here.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources = {name: load_examples(config, name, "train") for name, _ in config.pipeline.mixture}
        tokenizer = run_tokenizer(config, pathlib.Path(folder), sources, None)
    template = load_template(config.template, tokenizer)
    mesh = sharding.make_mesh()
    rows = sharding.process_rows(mesh, config.pipeline.batch_size)
    made = Pipeline(config.pipeline, sources, tokenizer, template, config.routing, rows)
    for _ in range(WARM_UP):
        next(made)
    started = time.perf_counter()
    for _ in range(batches):
        local = next(made)
        if progress:
            progress(1)
    seconds = (time.perf_counter() - started) / batches
    made.close()
    slots = config.pipeline.batch_size * config.pipeline.sequence_length
    trained = statistics.median(_steps(config, mesh, local, batches))
    return {
        "pipeline_slots_per_s": slots / seconds,
        "train_slots_per_s": slots / trained,
        "times": trained / seconds,
    }


def _steps(config: TrainConfig, mesh, local, count: int) -> list[float]:
    optimizer = make_optimizer(config.optimizer, config.steps)
    with jax.set_mesh(mesh):
        state = jax.jit(lambda key: init_state(config.objective, optimizer, key))(jax.random.key(0))
        step = make_train_step(config.objective, optimizer, config.accumulation, mesh)
        batch = sharding.place_rows(local, mesh, config.pipeline.batch_size)
        seconds = []
        for _ in range(count + 1):
            started = time.perf_counter()
            state = jax.block_until_ready(step(state, batch)[0])
            seconds.append(time.perf_counter() - started)
    return seconds[1:]  # the first compiles

"""A training run, from config to checkpoint; reads top to bottom."""

import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import sys
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import msgspec
import numpy as np
from tqdm import tqdm

from safety_align import distributed, sharding
from safety_align.bundle import Bundle
from safety_align.claims import Owner
from safety_align.data.pipeline import Pipeline
from safety_align.data.reference import ReferenceStore, WithReference
from safety_align.decoding.canaries import measure
from safety_align.errors import InputError, RunFailed
from safety_align.files import expanded, write_atomically
from safety_align.model import TransformerConfig, abstract_params, add_signal, fresh_signal
from safety_align.model.config import RUNTIME_FIELDS
from safety_align.model.readout import signal_shapes, split_signal
from safety_align.routing import Kind
from safety_align.text import load_template
from safety_align.training.checkpoint import (
    Checkpoints,
    load_run,
    saved_steps,
)
from safety_align.training.config import MAY_DIFFER, TrainConfig, completed
from safety_align.training.dpo import DpoConfig, dpo_margins
from safety_align.training.inputs import (
    claim_data,
    load_examples,
    run_tokenizer,
    validation_batches,
    validation_examples,
)
from safety_align.training.kept import KeptBatches, StateStore, check_kept, check_room
from safety_align.training.metrics import MetricsWriter, NoMetrics, auroc
from safety_align.training.optimizer import make_optimizer
from safety_align.training.ready import check_descent, check_run
from safety_align.training.reference import known_reference, preference_pairs, reference_sums
from safety_align.training.step import check_microbatches, init_state, make_eval_step, make_train_step, state_shardings
from safety_align.training.throughput import InputWatch


class NonFiniteLoss(RunFailed):
    """Training diverged; the last good checkpoint is kept."""


def train(
    config: TrainConfig, workdir: str | pathlib.Path, progress: bool = True, load: Callable[..., Bundle] = load_run
) -> dict[str, float]:
    """Runs (or resumes) training in `workdir` and returns the last validation's metrics.

    `load(init_from, mesh, test=False)` reads the model that a fresh run starts from; its safety signal need not work.

    Resuming is bit-exact: parameters, optimizer and data continue as if never interrupted. SIGTERM and Ctrl-C save
    first. Raises NonFiniteLoss, or InputError for a run that cannot begin, a workdir of another config, or one where
    another process trains.
    """
    with _StopSignal() as stopping, contextlib.ExitStack() as held:
        return _train(config, pathlib.Path(workdir), progress and distributed.is_main(), load, stopping, held)


def _train(config: TrainConfig, workdir: pathlib.Path, progress: bool, load, stopping: "_StopSignal", held):
    # --- what needs no data; only then is the workdir this run's, so that a corrected command goes on in it -----------
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    with distributed.agreed():
        check_run(config, mesh)
        check_microbatches(mesh, config.pipeline.batch_size, config.accumulation)
        check_kept(config.objective, config.kept_batches)
    rows = sharding.process_rows(mesh, config.pipeline.batch_size)
    fresh = distributed.from_main(not saved_steps(workdir / "checkpoints"))
    start_from = _load_start(config, mesh, load) if config.init_from and fresh else None
    with distributed.agreed():
        if not fresh and not (workdir / "config.json").exists():
            raise InputError(
                f"{workdir} holds checkpoints but no config.json; put it back, or choose another --workdir"
            )
    owner = Owner(
        dataclasses.asdict(config),
        taken=f"{workdir} holds a run of another config",
        advice="choose another --workdir or that config",
        may_differ=MAY_DIFFER,
        option="--workdir",
        completed=lambda old: completed(old, config),
    )
    held.enter_context(owner.holding(workdir, "config.json"))

    # --- data and tokenizer ---------------------------------------------------------------------------------------
    sources = {name: load_examples(config, name, "train", progress) for name, _ in config.pipeline.mixture}
    held_out = [e for name, _ in config.pipeline.mixture for e in validation_examples(config, name)]
    checkpoints = Checkpoints(workdir, config.keep)
    done = checkpoints.latest or 0
    if config.init_from and not done and start_from is None:  # the first checkpoint was cut off
        start_from = _load_start(config, mesh, load)
    claim_data(workdir, sources, begun=done > 0)
    with distributed.main_first("tokenizer"):
        tokenizer = run_tokenizer(config, workdir, sources, start_from)
    template = load_template(config.template, tokenizer)
    if config.dpo is not None:
        sources, held_out = _with_reference(
            config, workdir, sources, held_out, tokenizer, template, mesh, start_from, progress
        )
    pipeline = Pipeline(config.pipeline, sources, tokenizer, template, config.routing, rows)
    validation = validation_batches(config, held_out, tokenizer, template, progress)

    def place(local):
        return sharding.place_rows(local, mesh, config.pipeline.batch_size)

    # --- state, step ----------------------------------------------------------------------------------------------
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(config.optimizer, config.steps)
        shardings = state_shardings(config.objective, optimizer, mesh)
        key = jax.random.key(config.seed)
        make = jax.jit(lambda key: init_state(config.objective, optimizer, key), out_shardings=shardings)
        train_step = make_train_step(config.objective, optimizer, config.accumulation, mesh)
        eval_step = make_eval_step(config.objective, mesh)

        # --- precedence: 1. this workdir's newest checkpoint, 2. init_from, 3. fresh parameters --------------------
        if done:
            streams = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), place(pipeline.get_state())
            )
            state, streams = checkpoints.restore(jax.eval_shape(make, key), shardings, streams, done)
            if not config.kept_batches:
                pipeline.set_state(sharding.own_rows(streams))
        elif start_from is None:
            state = make(key)
        else:
            state = _start(config, start_from, optimizer, shardings, key)
            start_from = None  # its parameters are the state's now
        batches = pipeline
        if config.kept_batches:
            batches, validation = _kept(config, state.params, pipeline, validation, mesh, done, progress, stopping)
        writer = MetricsWriter(workdir, done) if distributed.is_main() else NoMetrics()
        bar = _Bar(config, done, progress)
        watch = InputWatch(config.pipeline.batch_size * config.pipeline.sequence_length)

        def validated():
            placed = (place(batch.take(rows)) for batch in validation)
            return validate(eval_step, state.params, placed, validation, config.dpo)

        def record():
            return signal_record(Bundle(config.model, state.params, tokenizer, template, config.gate), mesh)

        # --- the loop: step n's metrics are read after step n + 1 is under way -------------------------------------
        pending, last, saved = None, {}, done
        try:
            if done < config.steps:
                record()  # compiled now: the first save may be the one before the machine is taken away
            for step in range(done + 1, config.steps + 1):
                if stopping.requested():
                    break
                local = watch.take(batches, pending and pending[1]["loss"])
                state, metrics = train_step(state, place(local))
                if pending:
                    bar.show(*_note(pending, writer, config, watch))
                pending = (step, metrics)
                due = step % config.save_every == 0 or step == config.steps
                if due or step % config.eval_every == 0:
                    # A state is saved only once its loss is known to be finite.
                    bar.show(*_note(pending, writer, config, watch))
                    pending = None
                if due:
                    checkpoints.save(state, place(pipeline.get_state()), step, record())
                    saved = step
                if step % config.eval_every == 0 or step == config.steps:
                    last = validated()
                    writer.write(step, {f"validation/{k}": v for k, v in last.items()})
                    bar.note(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in last.items()))
            if stopping.asked and int(state.step) > saved:
                if pending:
                    bar.show(*_note(pending, writer, config, watch))
                saved = int(state.step)
                checkpoints.save(state, place(pipeline.get_state()), saved, record())
        finally:
            bar.close()
            writer.close()
            batches.close()
            checkpoints.close()
        if done >= config.steps:
            last = validated()
    if stopping.asked and distributed.is_main():
        print(f"stopped after step {saved}, saved; the same command resumes", file=sys.stderr)
    return last | {"step": saved}


def validate(eval_step, params, placed, batches, dpo: DpoConfig | None = None) -> dict[str, float]:
    """Perplexity of trained response tokens, and the head's accuracy and AUROC for queries, windows and plain text; of
    preference pairs the DPO loss and how often the chosen answer gained more.

    `placed` are the device copies of `batches`.
    """
    nats = count = 0.0
    scores = {name: ([], []) for name in ("query", "window", "text")}
    margins = []
    for on_device, batch in zip(placed, batches, strict=True):
        out = jax.device_get(eval_step(params, on_device))
        nats, count = nats + float(out.get("lm_sum", 0)), count + float(out.get("lm_count", 0))
        if dpo is not None:
            margins.append(dpo_margins(out["pair_logprobs"], batch.pair_reference)[batch.pair_weights > 0])
        for name in scores:
            chosen = (batch.cls_kinds == Kind[name.upper()]) & (batch.cls_weights > 0)
            for label in (0, 1):
                scores[name][label].append(out["safety_logits"][chosen & ((batch.cls_labels > 0.5) == label)])
    result = {"lm_loss": nats / count, "perplexity": math.exp(min(nats / count, 50))} if count else {}
    if margins and (of_pairs := np.concatenate(margins)).size:
        result["dpo_loss"] = float(np.mean(np.logaddexp(0, -dpo.beta * of_pairs)))
        result["pair_accuracy"] = float(np.mean(of_pairs > 0))
    for name, (benign, malicious) in scores.items():
        benign, malicious = np.concatenate(benign), np.concatenate(malicious)
        if len(benign) and len(malicious):
            right = (benign < 0).sum() + (malicious >= 0).sum()
            result[f"{name}_auroc"] = auroc(malicious, benign)
            result[f"{name}_accuracy"] = float(right / (len(benign) + len(malicious)))
    return result


def _kept(config: TrainConfig, params, pipeline: Pipeline, validation, mesh, done: int, progress: bool, stopping):
    """(the batches of the steps after `done`, those that validate), all with the states that a probe reads; what was given,
    if the run is to stop first."""
    root = expanded(config.data.cache_dir, "data.cache_dir") / "states"
    store = StateStore(root, config.objective, params, mesh)
    batches = [next(pipeline) for _ in range(config.kept_batches)]
    check_room(batches, config.kept_checks)
    store.fill(params, batches, "rows", progress, stopping.requested)
    store.fill(params, validation, "validation rows", progress, stopping.requested)
    if stopping.requested():
        return pipeline, validation
    pipeline.close()
    kept = KeptBatches(store, batches, config.pipeline.seed, done, config.kept_checks)
    return kept, [store.read(batch) for batch in validation]


def _load_start(config: TrainConfig, mesh, load: Callable[..., Bundle]) -> Bundle:
    """The model that a run begins with, of the run's shape, with a tokenizer that its template can use."""
    start = load(config.init_from, mesh, test=False)
    same_model(config.model, start.model_config, config.init_from)
    check_descent(config, start.model_config.safety_signal)
    if config.model.safety_signal and start.model_config.safety_signal:
        ours, theirs = (
            (c.signal.kind, c.signal.depths_of(c.layers), signal_shapes(c)) for c in (config.model, start.model_config)
        )
        if ours != theirs:
            raise InputError(
                f"init_from {config.init_from} has a safety signal of kind {theirs[0]!r} that reads layers {list(theirs[1])}, "
                f"the config's is {ours[0]!r} and reads {list(ours[1])}, or has other sizes: start from the model without it"
            )
    load_template(config.template, start.tokenizer)
    return start


def _with_reference(config, workdir, sources, held_out, tokenizer, template, mesh, start: Bundle | None, progress):
    """`sources` and `held_out`, their pairs with the reference's log-probabilities. A run that has begun keeps to the
    reference that it began with."""
    about = workdir / "reference.json"
    params, parameters = (start.params, None) if start else (None, known_reference(about))
    pairs = preference_pairs(config, sources)
    store = ReferenceStore(pathlib.Path(config.dpo.reference), len(pairs))
    with jax.set_mesh(mesh):
        sums, parameters = reference_sums(config, store, pairs, tokenizer, template, mesh, params, parameters, progress)
    if distributed.is_main():
        write_atomically(about, json.dumps({"parameters": parameters}))
    return {name: WithReference(s, sums) for name, s in sources.items()}, list(WithReference(held_out, sums))


def signal_record(bundle: Bundle, mesh) -> dict | None:
    """What a checkpoint keeps beside a safety signal: the gate, and the canaries' logits."""
    if not bundle.model_config.safety_signal:
        return None
    return {
        "format": 1,
        "gate": dataclasses.asdict(bundle.gate),
        "canaries": msgspec.to_builtins(measure(bundle, mesh=mesh)),
    }


def _start(config: TrainConfig, start: Bundle, optimizer, shardings, key: jax.Array):
    """The state that a run begins with from another model: its parameters, and a fresh safety signal where it has none
    (drawn from `key`); its own signal goes if the run wants none."""
    shapes = nn.unbox(abstract_params(config.model))
    params = start.params if config.model.safety_signal else split_signal(start.params)[1]
    if config.model.safety_signal and not start.model_config.safety_signal:
        if start.step is None:  # published: its embeddings are not of our initialiser's scale
            plain = dataclasses.replace(config.model, safety_signal=False)
            params = add_signal(plain, params, key)[1]
        else:
            params |= fresh_signal(config.model, key)
    params = jax.device_put(jax.tree.map(lambda x, s: x.astype(s.dtype), params, shapes), shardings.params)
    make = jax.jit(
        lambda params: init_state(config.objective, optimizer, key, params),
        out_shardings=shardings,
        donate_argnums=0,
    )
    return make(params)


def same_model(ours: TransformerConfig, theirs: TransformerConfig, where: str) -> None:
    """Raises InputError, naming the field, unless both configs describe the same language model."""
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name not in RUNTIME_FIELDS and a != b:
            raise InputError(
                f"init_from {where} is a model of another shape: {field.name} is {b!r} there, {a!r} in the config"
            )


def _note(pending, writer: MetricsWriter, config: TrainConfig, watch: InputWatch):
    """Reads a step's metrics, stops a diverged run, writes them where due; returns (step, metrics)."""
    step, metrics = pending
    metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])):
        raise NonFiniteLoss(
            f"loss {metrics['loss']}, gradient norm {metrics['grad_norm']} at step {step}; nothing of it was saved"
        )
    for name in ("query", "window", "pair"):
        if f"{name}_count" in metrics:
            count = metrics.pop(f"{name}_count")
            metrics[f"{name}_accuracy"] = metrics.pop(f"{name}_right") / max(count, 1.0)
    if step % config.log_every == 0 or step == config.steps:
        metrics |= watch.read()
        writer.write(step, metrics)
    return step, metrics


class _Bar:
    """The progress bar on stderr: loss, safety accuracy, time that devices waited for input, slots per second, time left."""

    def __init__(self, config: TrainConfig, done: int, progress: bool):
        self._slots = config.pipeline.batch_size * config.pipeline.sequence_length
        self._start, self._first, self._idle = time.monotonic(), done, "-"
        self._bar = tqdm(
            total=config.steps, initial=done, desc="train", unit="step", disable=not progress, file=sys.stderr
        )

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Moves to `step`."""
        rate = (step - self._first) * self._slots / (time.monotonic() - self._start)
        loss = next(metrics[name] for name in ("dpo_loss", "lm_loss", "cls_loss") if name in metrics)
        shown = {"loss": f"{loss:.3f}"}
        for name in ("query", "window", "pair"):
            if f"{name}_accuracy" in metrics:
                shown[name] = f"{metrics[f'{name}_accuracy']:.3f}"
        if "input_idle" in metrics:
            self._idle = f"{metrics['input_idle']:.1%}"
        shown["idle"] = self._idle
        self._bar.set_postfix(shown | {"tokens/s": f"{rate:,.0f}"}, refresh=False)
        self._bar.update(step - self._bar.n)

    def note(self, text: str) -> None:
        """A line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


class _StopSignal:
    """Within it, SIGTERM and Ctrl-C only ask the run to stop; a second Ctrl-C interrupts.

    Where there are several processes, jax's preemption service takes SIGTERM, and all stop at the same step.
    """

    def __init__(self):
        self.asked = False
        self._old = {}

    def requested(self) -> bool:
        """Whether to stop before the next step; the same in every process."""
        if jax.process_count() > 1:
            self.asked = distributed.stop_requested()
        return self.asked

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ():
            try:
                self._old[number] = signal.signal(number, self._request)
            except ValueError:  # not the main thread: the caller handles signals
                break
        return self

    def _request(self, number, frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)

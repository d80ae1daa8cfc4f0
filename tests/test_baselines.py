"""The baselines: data augmentation as data, DPO as an objective of the same step, its reference as a store."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from make import TINY, random_params, random_segment
from processes import finish, log, losses, start

from configs import embedded_augmented, embedded_dpo, embedded_sft
from configs.compare import pretraining
from launch import compare
from launch.train import to_train_config
from safety_align import sharding
from safety_align.data import reference as store
from safety_align.data.embedded import embedded_preferences
from safety_align.data.examples import MAX_UNSAFE_START, Example, encode_example
from safety_align.data.pipeline import Pipeline, PipelineConfig, stack
from safety_align.data.refusals import REFUSAL_PREFIX
from safety_align.data.sources import load_source, source_examples
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer
from safety_align.routing import Kind, Pair, Routing, RoutingConfig, place
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.training import loop
from safety_align.training import losses as losses_module
from safety_align.training.checkpoint import load_run
from safety_align.training.dpo import DpoConfig, dpo_loss, pair_logprobs
from safety_align.training.losses import token_nats
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.reference import fingerprint
from safety_align.training.step import TrainState, make_eval_step, make_train_step, state_shardings

TEMPLATE = get_template("plain")
PREFERENCES = embedded_preferences("train", 90)
TOKENIZER = Tokenizer.train([text for e in PREFERENCES for text in (e.response, e.rejected)], 500)
CONFIG = dataclasses.replace(TINY, vocab_size=104, safety_signal=False)
EMBEDDED = dict(data_dir="", cache_dir="")


# --- data augmentation ------------------------------------------------------------------------------------------------


def augmented(query="How?", refusal="No, I will not.", unsafe="one two three four five six seven eight nine ten"):
    return Example((Turn("user", query),), refusal, 1, 0, True, "s", "0", unsafe_start=unsafe)


def test_an_unsafe_start_is_context_of_a_refusal_and_only_the_refusal_is_learned():
    example, lengths = augmented(), []
    refusal = [*TOKENIZER.encode(example.response), TOKENIZER.eos_id]
    unsafe = list(TOKENIZER.encode(example.unsafe_start))
    for seed in range(400):
        segment = encode_example(example, TOKENIZER, TEMPLATE, 128, None, np.random.default_rng(seed))
        k = segment.context
        assert list(segment.response) == unsafe[:k] + refusal
        row = place([segment], 128, 0)
        assert list(row["targets"][row["loss_weights"] > 0]) == refusal
        assert row["loss_weights"].sum() == len(refusal)
        lengths.append(k)
    assert 0.4 < np.mean(np.array(lengths) == 0) < 0.6
    assert set(lengths) == set(range(len(unsafe) + 1))


def test_an_unsafe_start_is_no_longer_than_c_and_leaves_room_for_the_refusal():
    long = augmented(unsafe="word " * 400)
    refusal = len(TOKENIZER.encode(long.response)) + 1
    for length in (64, 400):
        segments = [
            encode_example(long, TOKENIZER, TEMPLATE, length, None, np.random.default_rng(i)) for i in range(60)
        ]
        assert all(s.length <= length and s.response[-1] == TOKENIZER.eos_id for s in segments)
        most = min(MAX_UNSAFE_START, length - len(segments[0].prompt) - refusal)
        assert most * 0.8 < max(s.context for s in segments) <= most


def test_epochs_draw_new_starts_and_no_unsafe_token_is_learned():
    examples = [augmented(f"Question {i}?", unsafe="unsafe " * 20) for i in range(6)]
    unsafe = TOKENIZER.encode(examples[0].unsafe_start)[1]
    config = PipelineConfig(96, 2, 0, (("a", 1.0),))
    pipeline = Pipeline(config, {"a": examples}, TOKENIZER, TEMPLATE, None)
    batches = [next(pipeline) for _ in range(6)]
    pipeline.close()
    counts: dict[str, set[int]] = {}
    for batch in batches:
        learned = batch["targets"][batch["loss_weights"] > 0]
        assert len(learned) and unsafe not in learned
        for tokens, segments in zip(batch["tokens"], batch["segments"], strict=True):
            for n in range(1, segments.max() + 1):
                ids = tokens[segments == n]
                query = TOKENIZER.decode(ids).split("?")[0]
                counts.setdefault(query, set()).add(int((ids == unsafe).sum()))
    assert len(counts) == 6 and max(map(len, counts.values())) > 1


def test_with_the_signal_a_broken_off_answer_has_no_windows():
    routing = RoutingConfig(windows=2)
    for seed in range(20):
        segment = encode_example(augmented(), TOKENIZER, TEMPLATE, 128, routing, np.random.default_rng(seed))
        kinds = [check.kind for check in segment.checks]
        assert kinds[0] == Kind.QUERY and (len(kinds) == 1) == (segment.context > 0)


def test_a_second_answer_needs_a_conversation():
    with pytest.raises(InputError, match="second answer"):
        Example((), "text", None, None, True, "s", "0", unsafe_start="x")
    with pytest.raises(InputError, match="not both"):
        dataclasses.replace(augmented(), rejected="y")


def test_derived_sources_take_unsafe_answers_from_one_place_only(tmp_path):
    import gzip

    path = tmp_path / "raw" / "train" / "beavertails.jsonl.gz"
    path.parent.mkdir(parents=True)
    rows = [{"prompt": f"Question {i}?", "response": f"Answer {i}.", "is_safe": i % 3 == 0} for i in range(90)]
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    options = dict(data_dir=tmp_path / "raw", cache_dir=tmp_path / "cache")
    unsafe = {e.query: e.response for e in source_examples("beavertails", tmp_path / "raw") if e.response_label == 1}
    for name, field in (("augmented", "unsafe_start"), ("preferred_refusals", "rejected")):
        found = [e for split in ("train", "test") for e in load_source(name, split, **options)]
        assert {e.query: getattr(e, field) for e in found} == unsafe
        assert all(e.source == name and e.response.startswith(REFUSAL_PREFIX) and e.train_lm for e in found)
        assert all(e.response_label == 0 for e in found)


def test_the_embedded_baselines_hold_no_held_out_goal():
    from safety_align.data.embedded import embedded_behaviors

    goals = [b.goal for b in embedded_behaviors("test")]
    for name in ("embedded_augmented", "embedded_preferences"):
        examples = load_source(name, "train", **EMBEDDED)
        text = "\n".join(f"{e.query} {e.response} {e.unsafe_start} {e.rejected}" for e in examples)
        assert not [goal for goal in goals if goal in text]
        assert all(e.response.startswith(REFUSAL_PREFIX) for e in examples if e.query_label == 1)
        benign = [e for e in examples if e.query_label == 0]
        assert all(e.rejected.startswith(REFUSAL_PREFIX) for e in benign) and bool(benign) == ("pref" in name)


# --- pairs and the objective ------------------------------------------------------------------------------------------


def random_pairs(rng, rows=4, length=96, pairs=4) -> tuple[dict[str, np.ndarray], list[list]]:
    """Packed rows of pairs, and of a few plain segments: (the batch, what is in each row)."""
    packed = []
    for _ in range(rows):
        items: list = [random_segment(rng, 5, 4, vocab=CONFIG.vocab_size, signal=False)]
        while sum(s.length for s in items) < length - 40 and sum(s.pairs for s in items) < pairs:
            sides = [
                random_segment(rng, 5, int(rng.integers(2, 12)), vocab=CONFIG.vocab_size, signal=False) for _ in "cr"
            ]
            rejected = dataclasses.replace(sides[1], prompt=sides[0].prompt, train_lm=False)
            items.append(Pair(sides[0], rejected, tuple(float(x) for x in rng.normal(-20, 5, 2))))
        packed.append([items[i] for i in rng.permutation(len(items))])
    return stack([place(items, length, 0, pairs) for items in packed]), packed


def test_the_objective_and_its_gradients_are_those_of_the_formula():
    """Against torch, written from equation 7; float32."""
    rng = np.random.default_rng(0)
    b, s, d, v, p = 3, 40, 6, 11, 2
    hidden, head = rng.normal(size=(b, s, d)).astype(np.float32), rng.normal(size=(d, v)).astype(np.float32)
    targets, sides = rng.integers(0, v, (b, s)), rng.integers(0, 2 * p + 1, (b, s)).astype(np.int32)
    reference = rng.normal(-18, 4, (b, p, 2)).astype(np.float32)
    weights = np.array([[1, 1], [1, 0], [0, 1]], np.float32)

    def ours(hidden, head):
        logprobs = pair_logprobs(token_nats(hidden, head, targets), sides, p)
        return dpo_loss(logprobs, reference, weights, 0.3, 4.0)

    h, w = (torch.tensor(x, requires_grad=True) for x in (hidden, head))
    logs = torch.log_softmax(h @ w, -1).gather(-1, torch.tensor(targets)[..., None])[..., 0]
    loss = torch.zeros(())
    for i in range(b):
        for j in range(p):
            if weights[i, j]:
                policy = [logs[i][torch.tensor(sides[i] == 1 + 2 * j + side)].sum() for side in (0, 1)]
                margin = (policy[0] - reference[i, j, 0]) - (policy[1] - reference[i, j, 1])
                loss = loss - torch.nn.functional.logsigmoid(0.3 * margin) / 4
    loss.backward()
    value, gradients = jax.value_and_grad(ours, (0, 1))(jnp.asarray(hidden), jnp.asarray(head))
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    for mine, theirs in zip(gradients, (h.grad, w.grad), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_extreme_margins_have_finite_losses_and_gradients():
    logprobs = jnp.array([[[0.0, -1e4], [-1e4, 0.0]]])
    grad = jax.value_and_grad(lambda x: dpo_loss(x, jnp.zeros((1, 2, 2)), jnp.ones((1, 2)), 0.5, 1.0))
    value, gradient = grad(logprobs)
    assert float(value) == 5e3 and np.isfinite(gradient).all()


def test_packed_log_probabilities_are_those_of_each_answer_alone(monkeypatch):
    """Against a forward pass of each conversation by itself and a softmax over whole logits: float32 to 2e-5."""
    monkeypatch.setattr(losses_module, "LOGITS_LENGTH", 32)
    batch, packed = random_pairs(np.random.default_rng(1))
    params = random_params(CONFIG, 3)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        found = np.asarray(make_eval_step(CONFIG, mesh)(params, batch)["pair_logprobs"])
    forward = jax.jit(
        lambda x: SafetyTransformer(CONFIG).apply({"params": params}, x["tokens"], x["positions"], Routing.of(x))
    )
    compared = 0
    for row, items in zip(found, packed, strict=True):
        for ours, pair in zip(row, [item for item in items if isinstance(item, Pair)], strict=False):
            for value, side in zip(ours, (pair.chosen, pair.rejected), strict=True):
                alone = forward({k: v[None] for k, v in place([side], 20, 0).items()})
                logs = np.asarray(jax.nn.log_softmax(alone.logits[0]), np.float64)
                first, ids = len(side.prompt), np.concatenate([side.prompt, side.response])
                expected = sum(logs[i - 1, ids[i]] for i in range(first, len(ids)))
                np.testing.assert_allclose(value, expected, rtol=2e-5)
                compared += 1
    assert compared >= 12 and (found[batch["pair_weights"] == 0] == 0).all()


def test_the_rejected_side_is_in_no_language_model_loss():
    batch, packed = random_pairs(np.random.default_rng(2))
    assert not ((batch["pair_sides"] > 0) & (batch["pair_sides"] % 2 == 0) & (batch["loss_weights"] > 0)).any()
    for row, items in enumerate(packed):
        pairs = [item for item in items if isinstance(item, Pair)]
        for p, pair in enumerate(pairs):
            for side, segment in enumerate((pair.chosen, pair.rejected)):
                where = batch["pair_sides"][row] == 1 + 2 * p + side
                assert list(batch["targets"][row][where]) == list(segment.response)
    with pytest.raises(InputError, match="rejected answer"):
        Pair(packed[0][0], dataclasses.replace(random_segment(np.random.default_rng(0), 3, 3, signal=False)))
    with pytest.raises(InputError, match="pairs_per_row"):
        place([pair], 200, 0)


def dpo_steps(accumulation=1, reference=None, lm=0.0, steps=3):
    """Metrics of a few steps from fixed parameters, and the parameters after them."""
    batch, _ = random_pairs(np.random.default_rng(5), rows=8)
    params, mesh = random_params(CONFIG, 3), sharding.make_mesh(devices=jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-3, warmup=1), 10)
    with jax.set_mesh(mesh):
        logprobs = jax.device_get(make_eval_step(CONFIG, mesh)(params, batch))["pair_logprobs"]
        batch = batch | {"pair_reference": logprobs + (0 if reference is None else reference)}
        dpo = DpoConfig("somewhere", beta=0.2, lm=lm)
        step = make_train_step(CONFIG, optimizer, 0.0, accumulation, mesh, dpo=dpo)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        state = jax.device_put(state, state_shardings(CONFIG, optimizer, mesh))
        found = []
        for _ in range(steps):
            state, metrics = step(state, jax.device_put(batch, sharding.batch_sharding(mesh)))
            found.append(jax.device_get(metrics))
    return found, jax.device_get(state.params)


def test_a_model_that_is_its_own_reference_has_loss_log_two():
    metrics, _ = dpo_steps()
    assert float(metrics[0]["loss"]) == np.float32(math.log(2)) and metrics[0]["pair_right"] == 0
    assert metrics[2]["loss"] < 0.69 and metrics[2]["pair_right"] > 8


def test_accumulated_preference_steps_equal_whole_ones():
    shift = np.random.default_rng(0).normal(0, 3, (8, 4, 2)).astype(np.float32)
    (a, p), (b, q) = (dpo_steps(accumulation, shift, lm=0.5) for accumulation in (1, 4))
    for x, y in zip(a, b, strict=True):
        assert x["pair_count"] == y["pair_count"] > 8
        for name in ("loss", "dpo_loss", "lm_loss", "grad_norm"):
            np.testing.assert_allclose(x[name], y[name], rtol=2e-5)
        np.testing.assert_allclose(x["loss"], x["dpo_loss"] + 0.5 * x["lm_loss"], rtol=1e-6)
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=5e-5)


# --- whole runs -------------------------------------------------------------------------------------------------------


def tiny(config, **changes):
    config.model.preset, config.model.vocab_size = "tiny", 400
    config.tokenizer_texts, config.data.batch_size, config.data.validation_examples = 200, 4, 24
    config.update(log_every=1, eval_every=100, save_every=2, keep=3)
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def sft(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sft") / "run"
    loop.train(to_train_config(tiny(embedded_sft.get_config(), steps=2, init_from="")), workdir, progress=False)
    return workdir


@pytest.fixture(scope="module")
def small():
    """The embedded preferences, fewer of them."""
    with pytest.MonkeyPatch.context() as patch:
        original = embedded_preferences
        patch.setattr("safety_align.data.embedded.embedded_preferences", lambda split, n: original(split, n // 50))
        yield


def dpo_run(sft, store_dir, **changes):
    config = tiny(embedded_dpo.get_config(), **dict(steps=6, init_from=str(sft)) | changes)
    config.dpo.reference = str(store_dir)
    return to_train_config(config)


@pytest.fixture(scope="module")
def whole(sft, small, tmp_path_factory):
    home = tmp_path_factory.mktemp("dpo")
    metrics = loop.train(dpo_run(sft, home / "reference"), home / "run", progress=False)
    return home, metrics


def rows_of(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_makes_its_reference_starts_at_log_two_and_learns_the_preferences(whole):
    home, metrics = whole
    losses = [row["dpo_loss"] for row in rows_of(home / "run") if "dpo_loss" in row]
    # The reference was computed in other rows: sums of floats in another order.
    assert abs(losses[0] - math.log(2)) < 1e-5 and losses[-1] < losses[0] - 1e-3
    assert metrics["dpo_loss"] < math.log(2) and metrics["pair_accuracy"] > 0.6
    about = json.loads((home / "reference" / "about.json").read_text())
    assert about["count"] == 6_000 // 50 + 300 // 50


def test_the_stored_reference_is_that_of_the_model(whole, sft):
    home, _ = whole
    sums = store.read_reference(home / "reference", 126)
    bundle = load_run(sft)
    examples = [e for split in ("train", "test") for e in load_source("embedded_preferences", split, **EMBEDDED)]
    length = embedded_dpo.get_config().data.sequence_length
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    eval_step = make_eval_step(bundle.model_config, mesh)
    for example in examples[::9]:
        pair = encode_example(example, bundle.tokenizer, bundle.template, length, None, np.random.default_rng(0))
        batch = {k: v[None] for k, v in place([pair], length, 0, 1).items()}
        with jax.set_mesh(mesh):
            found = eval_step(bundle.params, batch)["pair_logprobs"][0, 0]
        np.testing.assert_allclose(sums[example.source, example.id], found, rtol=1e-5)


class _StopAt(loop.Pipeline):
    """Hands out two batches, then behaves as a dying machine."""

    left = 3

    def __next__(self):
        if type(self).left == 0:
            raise KeyboardInterrupt
        type(self).left -= 1
        return super().__next__()


def test_an_interrupted_run_resumes_to_the_bit(whole, sft, tmp_path, monkeypatch):
    home, expected = whole
    config = dpo_run(sft, home / "reference")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Pipeline", _StopAt)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run").step == 2
    assert loop.train(config, tmp_path / "run", progress=False) == expected
    assert [r["loss"] for r in rows_of(tmp_path / "run") if "loss" in r] == [
        r["loss"] for r in rows_of(home / "run") if "loss" in r
    ]
    a, b = (load_run(w).params for w in (tmp_path / "run", home / "run"))
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), a, b))


def test_an_interrupted_reference_goes_on_to_the_bit(whole, sft, tmp_path, monkeypatch):
    home, _ = whole
    monkeypatch.setattr(store, "PART", 50)
    config = dpo_run(sft, tmp_path / "reference", steps=1)
    written = store.write_part

    def dying(path, *rest):
        if path.name.startswith("part-00002"):
            raise KeyboardInterrupt
        written(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_part", dying)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, tmp_path / "run", progress=False)
    assert store.missing_parts(tmp_path / "reference", 126) == [2]
    before = (tmp_path / "reference" / "part-00000.jsonl.gz").stat().st_mtime_ns
    loop.train(config, tmp_path / "run", progress=False)
    assert (tmp_path / "reference" / "part-00000.jsonl.gz").stat().st_mtime_ns == before
    again, sums = store.read_reference(tmp_path / "reference", 126), whole_sums(home)
    assert again.keys() == sums.keys()
    np.testing.assert_allclose([again[k] for k in sums], list(sums.values()), rtol=1e-5)


def whole_sums(home):
    """The store of the whole run, which was written as one part."""
    rows = [json.loads(line) for line in _lines(home / "reference" / "part-00000.jsonl.gz")]
    return {(r["source"], r["id"]): (r["chosen"], r["rejected"]) for r in rows}


def _lines(path):
    import gzip

    with gzip.open(path, "rt") as file:
        return file.readlines()


def test_another_model_encoding_or_data_is_refused(whole, sft, tmp_path, monkeypatch):
    home, _ = whole
    kept = (home / "reference" / "about.json").read_text()
    other = tmp_path / "other"
    loop.train(to_train_config(tiny(embedded_sft.get_config(), steps=1, init_from="")), other, progress=False)
    with pytest.raises(InputError, match=r"another model.*\(parameters differ\).*dpo\.reference"):
        loop.train(dpo_run(other, home / "reference"), tmp_path / "a", progress=False)
    longer = dpo_run(sft, home / "reference")
    longer = dataclasses.replace(longer, pipeline=dataclasses.replace(longer.pipeline, sequence_length=128))
    with pytest.raises(InputError, match=r"sequence_length differ"):
        loop.train(longer, tmp_path / "b", progress=False)
    with monkeypatch.context() as patch:
        fewer = embedded_preferences("train", 12), embedded_preferences("test", 6)
        patch.setattr("safety_align.data.embedded.embedded_preferences", lambda split, n: fewer[split == "test"])
        with pytest.raises(InputError, match=r"count, encoding, pairs differ"):
            loop.train(dpo_run(sft, home / "reference"), tmp_path / "c", progress=False)
    assert (home / "reference" / "about.json").read_text() == kept
    # A run that has begun does not change to another reference either.
    shutil.copytree(home / "run", tmp_path / "run")
    with pytest.raises(InputError, match="make them with launch.reference"):
        loop.train(dpo_run(sft, tmp_path / "nothing"), tmp_path / "run", progress=False)
    shutil.copytree(home / "reference", tmp_path / "copy")
    (tmp_path / "copy" / "part-00000.jsonl.gz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"part-00000.*corrupt"):
        loop.train(dpo_run(sft, tmp_path / "copy"), tmp_path / "run", progress=False)


def test_the_fingerprint_knows_every_bit_and_no_placement():
    params, mesh = random_params(CONFIG, 1), sharding.make_mesh(devices=jax.devices()[:1])
    marks = [fingerprint(params, mesh)]
    assert marks[0] == fingerprint(jax.tree.map(lambda x: x + 0, params), mesh)
    scale = params["final_norm"]["scale"]
    swapped = scale.at[0].set(scale[1]).at[1].set(scale[0])
    for changed in (scale.at[3].add(1e-6), swapped, scale.astype(jnp.bfloat16)):
        marks.append(fingerprint(params | {"final_norm": {"scale": changed}}, mesh))
    assert len(set(marks)) == 4


def test_two_processes_make_the_reference_and_train_as_one_does(sft, tmp_path):
    """Also: one process goes on with the store of two, whose fingerprint is the same. float32 sums to 2e-5."""
    where = tmp_path / "reference"
    changes = [
        "--config=configs/embedded_dpo.py", f"--config.init_from={sft}", "--config.steps=2", "--config.data.seed=9",
        "--config.data.batch_size=64", f"--config.dpo.reference={where}",
    ]  # fmt: skip
    # Both in processes of their own, where no fixture has made the corpus smaller.
    codes = finish(start(tmp_path / "two", *changes, processes=2))
    assert codes == [0, 0], log(tmp_path / "two")[-2000:]
    assert not store.missing_parts(where, 6300)
    assert finish(start(tmp_path / "one", *changes)) == [0], log(tmp_path / "one")[-2000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 2 and abs(two[1] - math.log(2)) < 1e-5  # both processes' rows have their own pairs' reference
    np.testing.assert_allclose(list(one.values()), list(two.values()), rtol=2e-5)


def test_impossible_preference_runs_are_named(sft, tmp_path):
    base = embedded_dpo.get_config()
    for change, named in (
        (dict(init_from=""), "init_from"),
        (dict(dpo=dict(reference="x", beta=0.0)), "beta"),
        (dict(dpo=dict(reference="")), "reference"),
        (dict(data=dict(pairs_per_row=0)), "pairs_per_row"),
        (dict(data=dict(pairs_per_row=None)), "pairs_per_row"),
    ):
        config = base.copy_and_resolve_references()
        with config.ignore_type():
            config.update(change)
        with pytest.raises(InputError, match=named):
            to_train_config(config)
    config = dpo_run(sft, tmp_path / "reference")
    none = dataclasses.replace(config.pipeline, mixture=(("embedded", 1.0),))
    with pytest.raises(InputError, match="no source of data.mixture holds preference pairs"):
        loop.train(dataclasses.replace(config, pipeline=none), tmp_path / "run", progress=False)
    plain = tiny(embedded_augmented.get_config(), steps=1, init_from="")
    plain.data.mixture = dict(embedded_preferences=1.0)
    with pytest.raises(InputError, match="give data.pairs_per_row"):
        loop.train(to_train_config(plain), tmp_path / "plain", progress=False)


# --- the comparison ---------------------------------------------------------------------------------------------------


def test_entries_of_a_comparison_take_overrides():
    for entry in pretraining.get_config().to_dict()["train"]:
        workdir, config, announcement = compare.training(entry)
        assert (config.lambda_cls == 0.0) == (workdir == "runs/pretrain_control")
        assert workdir in announcement and ("lambda_cls=0.0" in announcement) == (config.lambda_cls == 0.0)
    for bad in (("a", "b.py", {}, {}), ("a", "b.py", "c")):
        with pytest.raises(InputError, match="overrides"):
            compare.training(bad)

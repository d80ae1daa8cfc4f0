"""Whole runs of DPO: the reference as a store, interruptions, processes, what is refused."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dying import dying
from make import TINY, random_params
from processes import finish, log, losses, start

from configs import embedded_augmented, embedded_dpo, embedded_sft
from safety_align import sharding
from safety_align.data.embedded import embedded_preferences
from safety_align.data.examples import encode_example
from safety_align.data.reference import ReferenceStore
from safety_align.errors import InputError
from safety_align.placement import Batch, RowShape
from safety_align.training import loop
from safety_align.training.checkpoint import load_run
from safety_align.training.from_dict import to_train_config
from safety_align.training.inputs import load_examples
from safety_align.training.objective import Objective
from safety_align.training.reference import fingerprint, preference_pairs, reference_sums
from safety_align.training.step import make_eval_step

pytestmark = pytest.mark.slow

CONFIG = dataclasses.replace(TINY, vocab_size=104, safety_signal=False)


def tiny(config, **changes):
    config.model.preset, config.model.vocab_size = "tiny", 400
    config.tokenizer_texts, config.data.batch_size, config.data.validation_examples = 200, 4, 24
    config.update(log_every=1, eval_every=100, save_every=2, keep=3)
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def sft(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sft") / "run"
    loop.train(
        to_train_config(tiny(embedded_sft.get_config(), steps=2, init_from="").to_dict()), workdir, progress=False
    )
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
    return to_train_config(config.to_dict())


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
    sums = ReferenceStore(home / "reference", 126).read()
    bundle, config = load_run(sft), dpo_run(sft, home / "reference")
    examples = [e for split in ("train", "test") for e in load_examples(config, "embedded_preferences", split)]
    length = config.pipeline.sequence_length
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    eval_step = make_eval_step(Objective(bundle.model_config), mesh)
    for example in examples[::9]:
        pair = encode_example(example, bundle.tokenizer, bundle.template, length, None, np.random.default_rng(0))
        batch = Batch.of([[pair]], RowShape(length, pairs=1))
        with jax.set_mesh(mesh):
            found = eval_step(bundle.params, batch)["pair_logprobs"][0, 0]
        np.testing.assert_allclose(sums[example.source, example.id], found, rtol=1e-5)


def test_an_interrupted_run_resumes_to_the_bit(whole, sft, tmp_path, monkeypatch):
    home, expected = whole
    config = dpo_run(sft, home / "reference")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Pipeline", dying(3))
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
    config, start = dpo_run(sft, tmp_path / "reference"), load_run(sft)
    pairs = preference_pairs(config, {"embedded_preferences": load_examples(config, "embedded_preferences", "train")})
    store = ReferenceStore(tmp_path / "reference", len(pairs), part=50)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])

    def make():
        with jax.set_mesh(mesh):
            return reference_sums(config, store, pairs, start.tokenizer, start.template, mesh, start.params)[0]

    written = ReferenceStore.write

    def dying(self, part, *rest):
        if part == 2:
            raise KeyboardInterrupt
        written(self, part, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ReferenceStore, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert len(pairs) == 126 and store.missing() == [2]
    before = (tmp_path / "reference" / "part-00000.jsonl.gz").stat().st_mtime_ns
    again, sums = make(), whole_sums(home)
    assert (tmp_path / "reference" / "part-00000.jsonl.gz").stat().st_mtime_ns == before
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
    loop.train(to_train_config(tiny(embedded_sft.get_config(), steps=1, init_from="").to_dict()), other, progress=False)
    with pytest.raises(InputError, match=r"another model.*\(parameters: [^;]*\); .*dpo\.reference"):
        loop.train(dpo_run(other, home / "reference"), tmp_path / "a", progress=False)
    longer = dpo_run(sft, home / "reference")
    longer = dataclasses.replace(longer, pipeline=dataclasses.replace(longer.pipeline, sequence_length=128))
    with pytest.raises(InputError, match=r"sequence_length: \d+ there, 128 here"):
        loop.train(longer, tmp_path / "b", progress=False)
    with monkeypatch.context() as patch:
        fewer = embedded_preferences("train", 12), embedded_preferences("test", 6)
        patch.setattr("safety_align.data.embedded.embedded_preferences", lambda split, n: fewer[split == "test"])
        with pytest.raises(InputError, match=r"\(count: \d+ there, 18 here; encoding: .*; pairs: "):
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
        "--config.data.batch_size=64", "--config.data.sequence_length=256", f"--config.dpo.reference={where}",
    ]  # fmt: skip
    # Both in processes of their own, where no fixture has made the corpus smaller.
    codes = finish(start(tmp_path / "two", *changes, processes=2))
    assert codes == [0, 0], log(tmp_path / "two")[-2000:]
    assert not ReferenceStore(where, 6300).missing()
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
            to_train_config(config.to_dict())
    config = dpo_run(sft, tmp_path / "reference")
    none = dataclasses.replace(config.pipeline, mixture=(("embedded", 1.0),))
    with pytest.raises(InputError, match="no source of data.mixture holds preference pairs"):
        loop.train(dataclasses.replace(config, pipeline=none), tmp_path / "run", progress=False)
    plain = tiny(embedded_augmented.get_config(), steps=1, init_from="")
    plain.data.mixture = dict(embedded_preferences=1.0)
    with pytest.raises(InputError, match="give data.pairs_per_row"):
        loop.train(to_train_config(plain.to_dict()), tmp_path / "plain", progress=False)

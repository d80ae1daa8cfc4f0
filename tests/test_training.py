"""Losses, steps and runs: accumulation, meshes, bit-exact resume, and what stops a run."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dying import dying
from make import SIGNAL, TINY, random_params, random_rows

from configs import embedded_gated
from safety_align import sharding
from safety_align.claims import locked
from safety_align.errors import InputError
from safety_align.interop import bundle as interop_bundle
from safety_align.interop import load_model, load_unrolled
from safety_align.model import for_decoding
from safety_align.model.quantized import Int8Weight, quantize_params
from safety_align.training import integrity, loop
from safety_align.training.checkpoint import load_run, saved_steps
from safety_align.training.config import MeshConfig
from safety_align.training.from_dict import to_train_config
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.ready import check_run
from safety_align.training.step import TrainState, check_microbatches, make_train_step, state_shardings

CONFIG = dataclasses.replace(TINY, vocab_size=104)  # a vocabulary that every mesh below divides
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup=2)


def run_steps(accumulation: int, mesh_shape=(1, 1, 1, 1), steps: int = 3, devices=None):
    """Losses and final parameters of a few steps from fixed parameters and data."""
    batch, _ = random_rows(np.random.default_rng(5), rows=8)
    mesh = sharding.make_mesh(*mesh_shape, devices=devices)
    objective, optimizer = Objective(CONFIG, lambda_cls=0.5), make_optimizer(OPTIMIZER, 10)
    params = random_params(CONFIG, 3)
    with jax.set_mesh(mesh):
        step = make_train_step(objective, optimizer, accumulation, mesh)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        state = jax.device_put(state, state_shardings(objective, optimizer, mesh))
        losses = []
        for _ in range(steps):
            state, metrics = step(state, jax.device_put(batch, sharding.batch_sharding(mesh)))
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulated_steps_equal_whole_ones(accumulation):
    """The same sums in another order: float32 to about 1e-5, a few steps of Adam to about 1e-4."""
    (a, p), (b, q) = run_steps(1), run_steps(accumulation)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("sizes, fits", [((8, 1, 1, 1), (1, 2)), ((1, 4, 1, 2), (1, 2, 4)), ((2, 4, 1, 1), (1, 2))])
def test_every_device_has_rows_of_every_microbatch(sizes, fits):
    """Of 16 rows; on a mesh that is not there."""
    mesh = jax.sharding.AbstractMesh(sizes, sharding.MESH_AXES)
    for accumulation in (1, 2, 4, 8, 16):
        if accumulation in fits:
            check_microbatches(mesh, 16, accumulation)
        else:
            with pytest.raises(
                InputError, match=rf"16 / {accumulation} rows.*multiple of {accumulation * sizes[0] * sizes[1]}"
            ):
                check_microbatches(mesh, 16, accumulation)


def test_microbatches_are_looked_at_before_anything_is_prepared(tmp_path, monkeypatch):
    real = sharding.row_ways
    monkeypatch.setattr(sharding, "row_ways", lambda mesh: 2 * real(mesh))  # as if there were two devices
    config = small_run(accumulation=4)  # microbatches of one row
    with pytest.raises(InputError, match="microbatch"):
        loop.train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


MESHES = """
import json, os, sys
import numpy as np
sys.path[:0] = ["tests", "."]
import jax
from test_training import run_steps
whole, params = run_steps(1, steps=10, devices=jax.devices()[:1])
found = {}
for shape in ((8, 1, 1, 1), (2, 2, 1, 2), (1, 4, 1, 2), (1, 2, 4, 1), (1, 2, 2, 2)):
    losses, sharded = run_steps(1, shape, steps=10)
    again, _ = run_steps(1, shape, steps=10)
    worst = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(sharded), strict=True))
    found[str(shape)] = [losses, again, worst]
print(json.dumps([len(jax.devices()), whole, found]))
"""


@pytest.mark.slow
def test_eight_devices_in_any_mesh_train_like_one():
    environment = dict(
        os.environ, XLA_FLAGS=os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu"
    )
    done = subprocess.run([sys.executable, "-c", MESHES], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    devices, whole, meshes = json.loads(done.stdout.splitlines()[-1])
    assert devices == 8 and len(meshes) == 5
    for trained, again, worst in meshes.values():
        np.testing.assert_allclose(trained, whole, rtol=2e-5)
        assert trained == again  # each mesh to the bit with itself
        assert worst < 5e-4


# --- whole runs -------------------------------------------------------------------------------------------------------


def small_run(**changes):
    """Six steps of the embedded alignment on a tiny model."""
    config = embedded_gated.get_config()
    config.model.preset, config.model.vocab_size = "tiny", 400
    config.init_from = ""
    config.tokenizer_texts = 200
    config.data.mixture = {"embedded": 3.0, "embedded_queries": 1.0}
    config.data.batch_size, config.data.validation_examples = 4, 24
    config.optimizer.warmup = 1  # six steps are to show that it learns
    config.update(steps=6, log_every=1, eval_every=100, save_every=2, keep=3)
    config.update(changes)
    return to_train_config(config.to_dict())


def losses_of(workdir) -> dict[int, float]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    metrics = loop.train(small_run(), workdir, progress=False)
    return workdir, metrics


def test_a_run_learns_validates_and_writes_what_it_promises(whole):
    workdir, metrics = whole
    assert metrics["step"] == 6 and 0 <= metrics["query_auroc"] <= 1 and metrics["perplexity"] > 1
    losses = losses_of(workdir)
    assert list(losses) == [1, 2, 3, 4, 5, 6] and losses[6] < losses[1]
    assert list((workdir / "tensorboard").glob("events.*"))
    bundle = load_run(workdir)
    assert bundle.step == 6 and bundle.model_config.vocab_size == 400
    assert load_run(workdir / "checkpoints" / "4").step == 4


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_interrupted_run_resumes_to_the_bit(whole, tmp_path, monkeypatch, stop):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Pipeline", dying(stop))
        with pytest.raises(KeyboardInterrupt):
            loop.train(small_run(), workdir, progress=False)
    metrics = loop.train(small_run(), workdir, progress=False)
    assert metrics == whole[1]
    assert losses_of(workdir) == losses_of(whole[0])
    a, b = (load_run(w).params for w in (workdir, whole[0]))
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), a, b))


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on_to_the_bit(whole, tmp_path, monkeypatch):
    class Terminated(loop.Pipeline):
        count = 0

        def __next__(self):
            Terminated.count += 1
            if Terminated.count == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Pipeline", Terminated)
        assert loop.train(small_run(save_every=100), workdir, progress=False)["step"] == 3
    assert load_run(workdir).step == 3
    loop.train(small_run(save_every=100), workdir, progress=False)
    assert losses_of(workdir) == losses_of(whole[0])


@pytest.mark.slow
def test_a_non_finite_loss_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    class Poisoned(loop.Pipeline):
        count = 0

        def __next__(self):
            batch = super().__next__()
            Poisoned.count += 1
            if Poisoned.count == 4:
                batch = batch.replace(cls_labels=np.full_like(batch.cls_labels, np.nan))
            return batch

    monkeypatch.setattr(loop, "Pipeline", Poisoned)
    with pytest.raises(loop.NonFiniteLoss, match="step 4"):
        loop.train(small_run(), tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run").step == 2


@pytest.mark.slow
def test_another_config_is_refused_and_what_may_differ_is_not(whole):
    workdir, _ = whole
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match=r"lambda_cls: 1.0 there, 0.3 here"):
        loop.train(small_run(lambda_cls=0.3), workdir, progress=False)
    assert (workdir / "config.json").read_text() == before
    assert loop.train(small_run(log_every=3), workdir, progress=False)["step"] == 6


@pytest.mark.slow
def test_a_second_trainer_is_refused_and_a_killed_one_blocks_nobody(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    with locked(workdir), pytest.raises(InputError, match="run is in use by another run"):
        loop.train(small_run(), workdir, progress=False)
    (workdir / ".lock").write_text("process 1 on a machine that is gone\n")  # as a killed trainer leaves it
    assert loop.train(small_run(), workdir, progress=False)["step"] == 6
    assert not (workdir / ".lock").exists()


@pytest.mark.slow
def test_a_workdir_is_claimed_only_by_a_run_that_can_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load_examples", None)  # not reached
    workdir = tmp_path / "run"
    plain = small_run()
    data = dict(data_dir=str(tmp_path), mixture=dict(alpaca=1.0))
    impossible = {
        "'plian' is not one of .*llama3.*huggingface": dataclasses.replace(plain, template="plian"),
        "checkpoint .*nowhere.* does not exist": dataclasses.replace(plain, init_from=str(tmp_path / "nowhere")),
        "needs 3 devices": dataclasses.replace(plain, mesh=MeshConfig(data=3)),
        "parameters .* GiB": dataclasses.replace(
            plain, model=dataclasses.replace(plain.model, layers=10_000, mlp_width=10**6)
        ),
        "100,000,000 rows": small_run(data=dict(batch_size=10**8)),
        "2,000,000,024 slots": small_run(data=dict(sequence_length=2 * 10**9)),
        "alpaca.jsonl.gz does not exist": small_run(data=data),
        "data.labelled is empty": small_run(data=dict(mixture=dict(text_labelled=1.0))),
        "data.labelled: .*about.json does not exist": small_run(
            data=dict(labelled=str(tmp_path), mixture=dict(text_labelled=1.0))
        ),
    }
    for said, config in impossible.items():
        with pytest.raises(InputError, match=said):
            loop.train(config, workdir, progress=False)
        assert not workdir.exists()
    with pytest.raises(InputError, match="routing.windows"):
        small_run(routing=dict(windows=10**9))


@pytest.mark.slow
def test_what_a_save_needs_is_compiled_before_the_first_step(tmp_path, monkeypatch):
    class Compiled(Exception):
        pass

    def compile(*_, **__):
        raise Compiled

    monkeypatch.setattr(loop, "measure", compile)
    with pytest.raises(Compiled):
        loop.train(small_run(save_every=6), tmp_path, progress=False)
    assert not (tmp_path / "metrics.jsonl").read_text() and not saved_steps(tmp_path / "checkpoints")


def test_only_what_holds_queries_needs_the_evaluation_prompts(tmp_path):
    mesh = loop.sharding.make_mesh(data=1)
    for name in ("text/imdb", "train/alpaca"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl.gz").write_bytes(b"")
    data = dict(data_dir=str(tmp_path), drop_leaks=True)
    check_run(small_run(data=data | dict(mixture=dict(embedded=0.0, embedded_queries=0.0, text_imdb=1.0))), mesh)
    with pytest.raises(InputError, match="eval does not exist"):
        check_run(small_run(data=data | dict(mixture=dict(embedded=0.0, embedded_queries=0.0, alpaca=1.0))), mesh)


@pytest.mark.slow
def test_a_run_is_read_in_the_dtype_that_is_asked_for(whole):
    workdir, _ = whole
    trained, narrow = load_run(workdir), load_model(workdir, dtype="bfloat16")
    assert (narrow.model_config.dtype, narrow.model_config.param_dtype) == ("bfloat16", "bfloat16")
    for name, leaf in narrow.params.items():
        wanted = "float32" if name in SIGNAL else "bfloat16"
        same = jax.tree.map(
            lambda x, y, w=wanted: bool((x.astype(w) == y).all()) and y.dtype == w, trained.params[name], leaf
        )
        assert jax.tree.all(same), name
    decoded = load_unrolled(workdir, None)
    assert decoded.model_config == for_decoding(trained.model_config) and "layer_0" in decoded.params
    assert load_unrolled(workdir, None, "bfloat16").params["embedding"].dtype == jnp.bfloat16


def test_a_run_read_in_int8_is_tested_again(whole, monkeypatch):
    """The signal's self-test sees the weights that are going to be used."""
    tested = []
    monkeypatch.setattr(interop_bundle, "check_signal", lambda bundle, where, mesh=None: tested.append((bundle, where)))
    rounded = load_unrolled(whole[0], None, weights="int8")
    (seen, where), wanted = tested[-1], quantize_params(load_unrolled(whole[0], None).params)
    assert rounded.model_config.param_dtype == seen.model_config.param_dtype == "int8" and "rounded to int8" in where
    assert isinstance(seen.params["layer_0"]["attention"]["wq"], Int8Weight)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), rounded.params, wanted))
    with pytest.raises(InputError, match="load_unrolled rounds"):
        load_model(whole[0], weights="int8")


def test_a_checkpoint_whose_signal_no_longer_measures_is_refused(whole, tmp_path):
    """Sealed once more after it was changed, so that only the canaries know."""
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    folder = workdir / "checkpoints" / "6"
    record = json.loads((folder / "signal.json").read_text())
    assert record["gate"] == dataclasses.asdict(small_run().gate) and len(record["canaries"]) == 12
    record["canaries"][3]["logit"] += 1
    (folder / "signal.json").write_text(json.dumps(record))
    assert load_run(workdir).step == 4  # no longer what was sealed
    integrity.seal(folder)
    with pytest.raises(InputError, match="checkpoints/6: the safety signal no longer measures"):
        load_run(workdir)
    assert load_run(workdir, test=False).step == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_run_that_lost_a_file_does_not_begin_anew(whole, tmp_path, name):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    (workdir / name).unlink()
    with pytest.raises(InputError, match=f"holds checkpoints but no {name}"):
        loop.train(small_run(), workdir, progress=False)
    assert not (workdir / name).exists()


@pytest.mark.slow
def test_the_old_checkpoint_is_kept_until_the_new_one_is_sealed(whole, tmp_path, monkeypatch):
    """A kill between the writing of one and its seal leaves the one before."""
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    for step in ("4", "6"):
        shutil.rmtree(workdir / "checkpoints" / step)

    def killed(folder, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.train(small_run(keep=1), workdir, progress=False)
    assert saved_steps(workdir / "checkpoints") == [2, 4] and load_run(workdir).step == 2
    assert loop.train(small_run(keep=1), workdir, progress=False)["step"] == 6
    assert saved_steps(workdir / "checkpoints") == [6]
    assert losses_of(workdir) == losses_of(whole[0])


@pytest.mark.slow
def test_corrupt_and_absent_checkpoints_are_named(whole, tmp_path, capsys):
    with pytest.raises(InputError, match="does not exist"):
        load_run(tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(whole[0], broken)
    for file in pathlib.Path(broken / "checkpoints" / "6" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert load_run(broken).step == 4
    assert "checkpoints/6 cannot be read" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"checkpoints/6 cannot be read.*name another step"):
        load_run(broken / "checkpoints" / "6")
    shutil.rmtree(broken / "checkpoints" / "6")
    (broken / "checkpoints" / "4" / "checksums.0.json").unlink()
    (broken / "checkpoints" / "2" / "checksums.0.json").write_text('{"processes": 1, "files": {}}')
    with pytest.raises(InputError, match=r"checkpoints/2 cannot be read.*list no file.*there is none before it"):
        load_run(broken)
    shutil.rmtree(broken / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint"):
        load_run(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not JSON"):
        load_run(broken)


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(steps=0), "steps"),
        (dict(lambda_cls=-1.0), "lambda_cls"),
        (dict(accumulation=3), "accumulation"),
        (dict(optimizer=dict(learning_rate=0.0)), "learning_rate"),
        (dict(routing=dict(r1=0)), "r1"),
        (dict(data=dict(mixture=dict(embeded=1.0))), "embeded"),
    ],
)
def test_impossible_runs_are_named(tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        loop.train(small_run(**change), tmp_path / "run", progress=False)

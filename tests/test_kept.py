"""States kept for a probe: the same steps as with a forward pass each, whatever of the files is there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import TINY, random_params, random_segment

from launch import cli
from safety_align import sharding
from safety_align.errors import InputError, RunFailed
from safety_align.model.readout import SignalConfig, split_signal
from safety_align.placement import Batch, RowShape
from safety_align.routing import Kind
from safety_align.training import kept
from safety_align.training.checkpoint import load_run
from safety_align.training.from_dict import to_train_config
from safety_align.training.loop import train
from safety_align.training.losses import Totals
from safety_align.training.objective import Objective

PROBE = dataclasses.replace(TINY, layers=3, signal=SignalConfig("probe", depths=(1, 3), heads=3, features=5, members=2))
OBJECTIVE = Objective(PROBE, 1.0, "signal", beside=True)
MESH = sharding.make_mesh(devices=jax.devices()[:1])


def random_batch(seed: int, rows: int = 2) -> Batch:
    rng = np.random.default_rng(seed)
    segments = [
        [dataclasses.replace(random_segment(rng, 5, 7, 2), beside=True, train_lm=False) for _ in range(2)]
        for _ in range(rows)
    ]
    return Batch.of(segments, RowShape(32, 8))


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(objective, params, batch):
    signal, plain = split_signal(params)

    def loss(signal):
        return objective.losses(plain | signal, batch, Totals.of(batch))

    return jax.value_and_grad(loss, has_aux=True)(signal)


@pytest.mark.parametrize("seed", [0, 1])
def test_kept_states_train_as_a_forward_pass_does(tmp_path, seed):
    """Exactly where they are kept as they are; with bfloat16's 8 bits of mantissa to 2 % of the largest gradient."""
    params, batch = random_params(PROBE, seed), random_batch(seed)
    (loss, metrics), gradient = loss_and_gradient(OBJECTIVE, params, batch)
    states = OBJECTIVE.states(params, batch)
    (same, counted), equal = loss_and_gradient(OBJECTIVE, params, batch.replace(states=states))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), equal, gradient)
    assert jax.tree.map(float, counted).keys() == metrics.keys()
    store = kept.StateStore(tmp_path, OBJECTIVE, params, MESH)
    store.fill(params, [batch], "rows", progress=False)
    found = store.read(batch)
    assert found.states.dtype == jnp.bfloat16 and found.states.shape == (2, 32, 2, PROBE.width)
    np.testing.assert_allclose(np.float32(found.states), states, rtol=2**-8, atol=1e-6)  # as bfloat16 rounds
    (near, _), rounded = loss_and_gradient(OBJECTIVE, params, found)
    np.testing.assert_allclose(near, loss, rtol=1e-2)
    largest = max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-2 * largest), rounded, gradient)


def member(signal: dict, number: int) -> dict:
    """The arrays of one of `PROBE`'s members, as of a probe that has no other."""
    own = {name: np.split(value, PROBE.signal.members, -1)[number] for name, value in signal.items() if value.ndim}
    return signal | own


def test_each_member_learns_as_if_it_were_alone():
    """By its own loss: its gradient is that of a lone probe, over their number, and the bias they share has the mean."""
    params, batch = random_params(PROBE, 2), random_batch(2)
    signal, plain = split_signal(params)
    (loss, _), gradient = loss_and_gradient(OBJECTIVE, params, batch)
    lone = dataclasses.replace(
        OBJECTIVE, model=dataclasses.replace(PROBE, signal=SignalConfig("probe", 0, (1, 3), 3, 5))
    )
    found = [loss_and_gradient(lone, plain | member(signal, e), batch) for e in range(2)]
    np.testing.assert_allclose(loss, np.mean([value for (value, _), _ in found]), rtol=1e-6)
    for number, (_, alone) in enumerate(found):
        for name, value in member(gradient, number).items():
            if name != "safety_bias":
                np.testing.assert_allclose(2 * value, alone[name], rtol=1e-4, atol=1e-7, err_msg=name)
    shared = np.mean([alone["safety_bias"] for _, alone in found])
    np.testing.assert_allclose(gradient["safety_bias"], shared, rtol=1e-4, atol=1e-7)
    logits = [lone.evaluate(plain | member(signal, e), batch)["safety_logits"] for e in range(2)]
    np.testing.assert_allclose(
        OBJECTIVE.evaluate(params, batch)["safety_logits"], np.mean(logits, 0), rtol=1e-5, atol=1e-6
    )
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_files_are_of_one_model_and_one_batch(tmp_path):
    """Not of the signal, which changes while it is trained; a broken file is made anew, a good one is not."""
    params, batch, other = random_params(PROBE, 0), random_batch(0), random_batch(1)
    store = kept.StateStore(tmp_path, OBJECTIVE, params, MESH)
    store.fill(params, [batch, other, batch], "rows", progress=False)
    files = sorted(store.directory.iterdir())
    assert len(files) == 2 and all(f.stat().st_size > store.bytes_of(batch) for f in files)
    trained = {name: value + 1 for name, value in split_signal(params)[0].items()}
    assert kept.StateStore(tmp_path, OBJECTIVE, params | trained, MESH).directory == store.directory
    moved = params | {"embedding": params["embedding"] + 1} if "embedding" in params else random_params(PROBE, 1)
    deeper = dataclasses.replace(
        OBJECTIVE, model=dataclasses.replace(PROBE, signal=SignalConfig("probe", depths=(2, 3)))
    )
    elsewhere = {
        kept.StateStore(tmp_path, objective, p, MESH).directory
        for objective, p in ((OBJECTIVE, moved), (deeper, params))
    }
    assert len(elsewhere | {store.directory}) == 3
    expected = np.asarray(store.read(batch).states)
    broken = store._path(batch)
    broken.write_bytes(broken.read_bytes()[:200])
    whole = store._path(other).stat().st_mtime_ns
    with pytest.raises(RunFailed, match="gone or broken"):
        store.read(batch)
    store.fill(params, [batch, other], "rows", progress=False)
    np.testing.assert_array_equal(store.read(batch).states, expected)
    assert store._path(other).stat().st_mtime_ns == whole
    broken.unlink()
    store.fill(params, [batch], "rows", progress=False, stop=lambda: True)
    assert not broken.exists()


def test_an_epoch_takes_each_batch_once():
    taken = [kept.index(step, 7, seed=3) for step in range(28)]
    epochs = [taken[i : i + 7] for i in range(0, 28, 7)]
    assert epochs[0] == list(range(7)) and all(sorted(epoch) == epochs[0] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 2


def test_some_checks_are_those_of_queries_and_as_many_others_as_there_is_room_for():
    rng = np.random.default_rng(3)
    rows = [
        [dataclasses.replace(random_segment(rng, 5, 9, windows), beside=True, train_lm=False) for windows in (4, 3)]
        for _ in range(2)
    ]
    batch = Batch.of(rows, RowShape(32, 16))
    batch = batch.replace(cls_weights=rng.random(batch.cls_weights.shape))  # so that no two are the same

    def checks(batch, row):
        used = batch.cls_index[row] < 32
        return [
            tuple(np.concatenate([np.ravel(getattr(batch, f"cls_{name}")[row][i]) for name in NAMES]).tolist())
            for i in np.flatnonzero(used)
        ]

    seen = set()
    for seed in range(8):
        found = kept.some_checks(batch, 5, np.random.default_rng(seed))
        np.testing.assert_array_equal(found.tokens, batch.tokens)
        assert found.cls_index.shape == (2, 5) and found.cls_range.shape == (2, 5, 2)
        for row in range(2):
            before, after = checks(batch, row), checks(found, row)
            places = [before.index(check) for check in after]
            assert len(after) == 5 and places == sorted(places)
            assert all(check in after for check in before if check[-1] == Kind.QUERY)
            seen.add((row, tuple(places)))
    assert len(seen) > 6  # others each time
    every = kept.some_checks(batch, 16, rng)
    assert [checks(every, row) for row in range(2)] == [checks(batch, row) for row in range(2)]


NAMES = "index", "range", "labels", "weights", "kinds"


def values(tmp_path, base, steps: int, **more) -> dict:
    config = cli.load_config("configs/signal.py").to_dict()
    config["model"] = {"preset": "tiny", "layers": 2, "vocab_size": 300, "safety_signal": True}
    config["data"] |= {
        "mixture": {"embedded": 3.0, "embedded_queries": 1.0}, "batch_size": 2, "validation_examples": 6,
        "cache_dir": str(tmp_path / "cache"), "system_turns": 0.0, "other_roles": 0.0, "passages": 0.0,
    }  # fmt: skip
    return config | {
        "template": "plain", "init_from": str(base), "steps": steps, "log_every": 1, "eval_every": 4, "save_every": 2,
    } | more  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain language model's run."""
    folder = tmp_path_factory.mktemp("kept")
    config = values(folder, "", 1, kept_batches=0, trainable="all")
    config["model"]["safety_signal"] = False
    train(to_train_config(config), folder / "base", progress=False)
    return folder / "base"


@pytest.mark.slow
def test_a_run_goes_on_with_what_is_kept(tmp_path, base, capfd, monkeypatch):
    """To the bit, though it was stopped in its second epoch and a file was lost."""

    widths = set()

    class Sees(kept.KeptBatches):
        def __next__(self):
            batch = super().__next__()
            widths.add(batch.cls_index.shape[1])
            return batch

    monkeypatch.setattr("safety_align.training.loop.KeptBatches", Sees)

    def run(name, steps):
        found = train(
            to_train_config(values(tmp_path, base, steps, kept_batches=3, kept_checks=100)),
            tmp_path / name,
            progress=True,
        )
        return found, split_signal(load_run(tmp_path / name).params)[0]

    metrics, whole = run("whole", 8)
    assert widths == {100}  # of each row's 128 checks
    files = list((tmp_path / "cache" / "states").glob("*/*.npy"))
    assert "rows:" in capfd.readouterr().err and metrics["step"] == 8
    interrupt_after(to_train_config(values(tmp_path, base, 8, kept_batches=3, kept_checks=100)), tmp_path / "parts", 5)
    files[0].unlink()
    _, resumed = run("parts", 8)
    assert set((tmp_path / "cache" / "states").glob("*/*.npy")) == set(files)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def interrupt_after(config, workdir, steps: int):
    """Trains until `steps` are done, as if a signal had come then."""
    taken = iter(range(steps + 1))

    class Stops(kept.KeptBatches):
        def __next__(self):
            if next(taken, None) == steps:
                raise KeyboardInterrupt
            return super().__next__()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("safety_align.training.loop.KeptBatches", Stops)
        train(config, workdir, progress=False)


def test_what_cannot_be_kept_is_refused(tmp_path, base):
    with pytest.raises(InputError, match="kept_batches=3 is for a probe"):
        deep = values(tmp_path, base, 1, kept_batches=3) | {"signal": {"kind": "row_deep"}}
        train(to_train_config(deep), tmp_path / "run", progress=False)
    for bad in (dict(kept_checks=4), dict(kept_batches=3, kept_checks=128)):
        with pytest.raises(InputError, match=f"kept_checks={bad['kept_checks']} are some of the data.checks_per_row"):
            to_train_config(values(tmp_path, base, 1, **bad))
    with pytest.raises(InputError, match="kept_checks=4, but a row holds .* queries"):
        train(
            to_train_config(values(tmp_path, base, 1, kept_batches=1, kept_checks=4)), tmp_path / "few", progress=False
        )
    with pytest.raises(InputError, match="kept_batches"):
        to_train_config(values(tmp_path, base, 1, kept_batches=-1))

"""Trainings that take shape, dtype and chat template from the model that they start from."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from make import random_params

from configs import signal, signal_robust
from launch import check, cli
from safety_align.errors import InputError
from safety_align.interop import load_model, load_pretrained, load_unrolled, save_pretrained
from safety_align.interop.start import with_start
from safety_align.model import preset
from safety_align.model.readout import SignalConfig, is_signal
from safety_align.training.checkpoint import load_run
from safety_align.training.from_dict import to_train_config
from safety_align.training.loop import train
from safety_align.training.perturbation import Perturbation

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_chat import write_byte_level
from test_hub import COMMIT, environment, serving

VOCAB = 420


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny Qwen-like model with a chat tokenizer, stored in bfloat16."""
    path = tmp_path_factory.mktemp("start")
    write_byte_level(path / "tokenizer", "chatml")
    config = preset(
        "tiny", vocab_size=VOCAB, qkv_bias=True, safety_signal=False, param_dtype="bfloat16", dtype="bfloat16"
    )
    params = jax.tree.map(lambda x: x.astype("bfloat16"), random_params(config))
    save_pretrained(path / "model", config, params, assets=path / "tokenizer")
    return path / "model"


def values(init_from="", of=signal, **model) -> dict:
    """configs/signal.py, or another, on the embedded corpus, short."""
    config = of.get_config()
    config.model.update(model)
    config.init_from = str(init_from)
    config.data.mixture = {"embedded": 3.0, "embedded_queries": 1.0}
    config.data.batch_size, config.data.validation_examples = 2, 8
    config.data.passages_from = "embedded"
    config.update(steps=2, log_every=1, eval_every=2, save_every=1)
    return config.to_dict()


def platform(name):
    return lambda: name


@pytest.mark.parametrize("where, dtype", [("cpu", "float32"), ("gpu", "bfloat16"), (None, "bfloat16")])
def test_shape_dtype_and_template_are_the_models(directory, where, dtype, capsys):
    found = to_train_config(with_start(values(directory), None, where and platform(where)))
    stored = load_pretrained(directory).config
    own = dict(safety_signal=True, dtype=dtype, param_dtype=dtype, signal=SignalConfig("probe"))
    assert found.model == dataclasses.replace(stored, **own) and found.template == "huggingface"
    assert not found.gate.visible and found.trainable == "signal"
    said = {"cpu": "stored in bfloat16, computed in float32", "gpu": "computed in bfloat16, as it is stored", None: ""}[
        where
    ]
    assert said in capsys.readouterr().err
    chosen = to_train_config(with_start(values(directory, dtype="bfloat16", remat="full"), None, platform("cpu")))
    assert (chosen.model.dtype, chosen.model.param_dtype, chosen.model.remat) == ("bfloat16", "bfloat16", "full")
    whole = to_train_config(
        with_start(values(directory) | {"trainable": "all", "signal": {"kind": "row"}}, None, platform("gpu"))
    )
    assert (whole.model.dtype, whole.model.param_dtype) == ("bfloat16", "float32")  # small steps


@pytest.mark.slow
def test_the_robust_signal_is_trained_beside_the_model(directory, tmp_path):
    """Four steps: a probe says the same of everything at first, so that there is nowhere to move to."""
    config = values(directory, signal_robust) | {"steps": 4, "eval_every": 4}
    found = to_train_config(with_start(config, None, platform("cpu")))
    assert found.perturbation == Perturbation(0.5, 1) and found.data.disguised == 0.25
    assert train(found, tmp_path / "run", progress=False, load=load_model)["step"] == 4
    before, after = load_pretrained(directory).params, load_run(tmp_path / "run").params
    for name in ("embedding", "layers"):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b, a.dtype)), before[name], after[name])
    for changed in (dict(perturbation=None), dict(data=dataclasses.replace(found.data, disguised=0.0))):
        train(dataclasses.replace(found, **changed), tmp_path / "other", progress=False, load=load_model)
        assert not np.array_equal(after["probe_value"], load_run(tmp_path / "other").params["probe_value"])
        shutil.rmtree(tmp_path / "other")


def test_a_run_that_has_begun_keeps_what_it_took(directory, tmp_path):
    there, run = tmp_path / "there", tmp_path / "run"
    shutil.copytree(directory, there)
    begun = to_train_config(with_start(values(there), run, platform("cpu")))
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(begun)))
    shutil.rmtree(there)
    assert to_train_config(with_start(values(there), run, platform("gpu"))) == begun
    # What is asked for in words counts, and another run's config is refused for it.
    assert to_train_config(with_start(values(there, dtype="bfloat16"), run)).model.dtype == "bfloat16"
    # A run is a start as well: its model, its template.
    other = to_train_config(with_start(values(run)) | {"init_from": "x"})
    assert other.model == begun.model and other.template == begun.template
    with pytest.raises(InputError, match="init_from .*there is not there"):
        with_start(values(there), tmp_path / "another")


def test_the_template_is_the_typed_one_where_the_model_has_none(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "model")
    for file in (tmp_path / "model").glob("*.jinja"):
        file.unlink()
    settings = tmp_path / "model" / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(settings.read_text()).items() if key != "chat_template"}
    settings.write_text(json.dumps(kept))
    assert with_start(values(tmp_path / "model"))["template"] == "chatml"


def test_what_is_no_start_is_named(directory, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for start, said in (
        ("", "which is empty: --config.init_from=DIR"),
        (odd, "is no model"),
        (tmp_path / "no", "is not there"),
    ):
        with pytest.raises(InputError, match=said):
            with_start(values(start))
    (odd / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InputError, match=f"init_from {odd}: .*gpt2.* is not one of llama"):
        with_start(values(odd))
    with pytest.raises(InputError, match=r"routing.visible"):
        to_train_config(with_start(values(directory)) | {"gate": {"visible": True}})


def test_a_start_that_is_elsewhere_does_not_keep_a_run_from_its_pod(directory, tmp_path, capsys):
    check.check_config("configs/signal.py", [f"--config.init_from={directory}"])
    check.check_config("configs/signal.py", [f"--config.init_from={tmp_path / 'on_the_pod'}"])
    assert "on_the_pod is not there" in capsys.readouterr().err
    with pytest.raises(InputError, match="no_such"):
        check.check_config("configs/signal.py", [f"--config.init_from={directory}", "--config.template=no_such"])
    with pytest.raises(InputError, match="layers is 2 there, 3"):
        config = to_train_config(with_start(values(directory, layers=3)))  # of the embedded corpus: no file is missing
        train(config, tmp_path / "run", progress=False, load=load_model)


def test_decoding_is_in_float32_on_a_cpu_unless_asked_otherwise(directory, capsys):
    assert load_unrolled(directory, None).model_config.dtype == "float32"
    assert f"{directory}: stored in bfloat16, computed in float32" in capsys.readouterr().err
    assert load_unrolled(directory, None, "bfloat16").model_config.dtype == "bfloat16"
    assert load_model(directory).model_config.dtype == "bfloat16"  # in Python as it is stored
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_is_trained_beside_a_model_of_the_hub_and_goes_on_without_it(directory, tmp_path):
    """By the commands: train from a name, go on offline with nothing of it left, answer, convert."""
    overrides = [
        f"--config.data.{key}={value}"
        for key, value in (("batch_size", 2), ("validation_examples", 8), ("cache_dir", tmp_path / "cache"))
    ]
    file = tmp_path / "config.py"
    file.write_text(
        "from configs import signal\n"
        "def get_config():\n"
        "    config = signal.get_config()\n"
        "    config.data.mixture = {'embedded': 3.0, 'embedded_queries': 1.0}\n"
        "    config.data.passages_from = 'embedded'\n"
        "    config.update(steps=4, log_every=1, eval_every=4, save_every=2, keep=3)\n"
        "    return config\n"
    )

    def command(name: str, url: str, *arguments, home="home", **more):
        return subprocess.run(
            [sys.executable, "-m", f"launch.{name}", *map(str, arguments)],
            env=environment(tmp_path / home, url, **more), capture_output=True, text=True, check=False,
        )  # fmt: skip

    run = tmp_path / "run"
    asked = [f"--config={file}", f"--workdir={run}", "--config.init_from=some/model", *overrides]
    with serving({"some/model": {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}}) as server:
        done = command("train", server.url, *asked)
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"init_from: some/model@{COMMIT}" in done.stderr and "computed in float32" in done.stderr
        stored = json.loads((run / "config.json").read_text())
        assert stored["init_from"] == f"some/model@{COMMIT}" and stored["model"]["vocab_size"] == VOCAB
        answers = command(
            "generate", server.url, "--checkpoint=some/model", "--prompt=Hello", "--no-gate", "--max-new-tokens=4"
        )
        assert answers.returncode == 0 and f"some/model@{COMMIT}" in answers.stderr
        back = command("convert", server.url, "--from=some/model@main", f"--to={tmp_path / 'back'}")
        assert back.returncode == 0 and f"some/model@{COMMIT}" in back.stdout
        assert (tmp_path / "back/model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()
    again = command("train", server.url, *asked, home="empty", HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "step             4" in again.stdout, again.stderr[-2000:]
    other = command(
        "train", server.url, *asked[:2], "--config.init_from=some/other", *overrides, home="empty", HF_HUB_OFFLINE="1"
    )
    assert other.returncode == 2 and "HF_HUB_OFFLINE is set" in other.stderr
    # The language model is the one that came, to the bit; the signal learned, and the gate shows what training showed.
    bundle, before = load_run(run), load_pretrained(directory, dtype="float32").params
    after = {name: value for name, value in bundle.params.items() if not is_signal(name)}
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))
    assert np.abs(bundle.params["probe_value"]).max() > 0 and not bundle.gate.visible
    assert cli.EXIT_BAD_INPUT == 2

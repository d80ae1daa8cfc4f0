"""A published model's path, small: tokenizer and weights from its directory, a safety signal, training, and out again."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from make import SIGNAL, random_params

from configs import embedded_gated
from configs.compare import aligned
from examples import huggingface
from launch import compare
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.errors import InputError
from safety_align.interop import load_model, load_pretrained, save_pretrained
from safety_align.interop.convert import convert
from safety_align.interop.llama2c import load_llama2c, read_llama2c_tokenizer
from safety_align.model import SafetyTransformer, add_signal, preset
from safety_align.placement import Batch, RowShape, Segment
from safety_align.text import Turn
from safety_align.training.checkpoint import load_run
from safety_align.training.from_dict import to_train_config
from safety_align.training.loop import train

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_chat import write_byte_level

pytestmark = pytest.mark.slow

DATA = pathlib.Path(__file__).parents[2] / "../shared/data"
STORIES = pathlib.Path(__file__).parents[2] / "../shared/data/checkpoints"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny Qwen-like model with a chat tokenizer, stored in bfloat16."""
    path = tmp_path_factory.mktemp("published")
    write_byte_level(path / "tokenizer", "chatml")
    vocab = 420
    config = preset(
        "tiny", vocab_size=vocab, qkv_bias=True, safety_signal=False, param_dtype="bfloat16", dtype="bfloat16"
    )
    params = jax.tree.map(lambda x: x.astype("bfloat16"), random_params(config))
    save_pretrained(path / "model", config, params, assets=path / "tokenizer")
    return path / "model"


def run_config(directory, **changes):
    config = embedded_gated.get_config()
    config.model = dict(preset="tiny", vocab_size=420, qkv_bias=True, dtype="bfloat16", param_dtype="float32")
    config.init_from, config.template = str(directory), "huggingface"
    config.data.mixture = {"embedded": 3.0, "embedded_queries": 1.0}
    config.data.batch_size, config.data.validation_examples, config.data.sequence_length = 4, 24, 512
    config.update(steps=8, log_every=1, eval_every=100, save_every=4, keep=3, trainable="all")
    config.update(changes)
    return to_train_config(config.to_dict())


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("trainable", ["all", "signal"])
def test_a_published_model_is_aligned_and_handed_back(directory, tmp_path, trainable):
    config = run_config(directory, trainable=trainable, lambda_cls=1.0)
    train(config, tmp_path / "run", progress=False, load=load_model)
    bundle = load_run(tmp_path / "run")
    before = load_pretrained(directory, dtype="float32").params
    after = {name: value for name, value in bundle.params.items() if name not in SIGNAL}
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
    assert all(jax.tree.leaves(same)) == (trainable == "signal")
    assert np.abs(bundle.params["safety_kernel"]).max() > 0
    convert(tmp_path / "run", tmp_path / "out", dtype="bfloat16")
    handed = load_model(tmp_path / "out")
    assert handed.model_config.safety_signal
    assert handed.gate == bundle.gate == GateConfig() and handed.canaries == bundle.canaries
    for name in SIGNAL:
        np.testing.assert_array_equal(handed.params[name], bundle.params[name])
    if trainable == "signal":
        original, exported = ((d / "model.safetensors").read_bytes() for d in (directory, tmp_path / "out"))
        assert original == exported  # the model that came in, to the bit
    answer = Generator(handed, max_length=256)
    result = answer.generate([Request((Turn("user", "How do I bake bread?"),))], 8)[0]
    assert result.checks and np.isfinite(result.query_score)


def test_training_the_signal_resumes_bit_exactly(directory, tmp_path):
    config = run_config(directory, trainable="signal")
    train(config, tmp_path / "whole", progress=False, load=load_model)
    first = dataclasses.replace(config, steps=4)
    with pytest.raises(InputError):  # the number of steps belongs to the run
        train(first, tmp_path / "whole", progress=False, load=load_model)
    script = (
        "import sys, signal, threading, os\n"
        "import safety_align.training.loop as loop\n"
        "note = loop._note\n"
        "def stop(pending, *rest):\n"
        "    if pending[0] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return note(pending, *rest)\n"
        "loop._note = stop\n"
        "sys.path[:0] = sys.argv[3:]\n"
        "from test_published import run_config\n"
        "from safety_align.interop import load_model\n"
        "loop.train(run_config(sys.argv[1], trainable='signal'), sys.argv[2], progress=False, load=load_model)\n"
    )
    here = pathlib.Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script, directory, tmp_path / "cut", here, here.parent], check=False)
    assert done.returncode == -9
    train(config, tmp_path / "cut", progress=False, load=load_model)
    a, b = (load_run(tmp_path / name).params for name in ("whole", "cut"))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))
    assert losses(tmp_path / "cut")[-4:] == losses(tmp_path / "whole")[-4:]


def test_a_config_of_another_shape_names_the_field(directory, tmp_path):
    config = run_config(directory)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, rope_theta=5e5))
    with pytest.raises(InputError, match="rope_theta is 10000.0 there, 500000.0"):
        train(other, tmp_path / "run", progress=False, load=load_model)


def test_before_training_the_signal_is_not_felt(directory):
    """With the gate off, the extended model's logits are those of the model that came in, to the bit."""
    loaded = load_pretrained(directory)
    config, params = add_signal(loaded.config, loaded.params, jax.random.key(0))
    ids = np.arange(3, 33)
    segment = Segment(ids, np.zeros(30, bool), ids[:0], np.zeros(0, bool))
    arguments = Batch.of([[segment]], RowShape(30)).inputs
    plain = SafetyTransformer(loaded.config).apply({"params": loaded.params}, *arguments).logits
    extended = SafetyTransformer(config).apply({"params": params}, *arguments).logits
    assert np.asarray(plain).tobytes() == np.asarray(extended).tobytes()


def test_vocabulary_and_tokenizer_must_match(directory, tmp_path):
    import shutil

    shutil.copytree(directory, tmp_path / "model")
    config = preset("tiny", vocab_size=300, safety_signal=False)
    save_pretrained(tmp_path / "small", config, random_params(config), assets=tmp_path / "model")
    for attempt in (lambda: load_model(tmp_path / "small"), lambda: convert(tmp_path / "small", tmp_path / "out")):
        with pytest.raises(InputError, match="the tokenizer has"):
            attempt()
    assert not (tmp_path / "out").exists()


def test_converting_reads_nothing_that_is_no_model(tmp_path):
    (tmp_path / "folder").mkdir()
    for source, message in ((tmp_path / "folder", "not a model"), (tmp_path / "none", "not a model")):
        with pytest.raises(InputError, match=message):
            convert(source, tmp_path / "out")
    (tmp_path / "file.bin").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="its header describes"):
        convert(tmp_path / "file.bin", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- a real trained model ---------------------------------------------------------------------------------------------


def test_the_example_gives_a_model_a_signal(directory, capsys):
    """Of a random model: the loss falls, and answers go through the gate."""
    before, after = huggingface.main(directory, steps=40)
    out = capsys.readouterr()
    losses = [float(line.split()[-1]) for line in out.out.splitlines() if line.startswith("step")]
    assert losses[-1] < losses[0] < np.log(2) + 0.3
    assert 0 <= before <= 1 and after >= 0.5
    assert out.out.count("malicious: ") == 2 and "first" in out.err


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    if not (STORIES / "stories260K.bin").is_file():
        pytest.skip(f"the trained model is not at {STORIES}")
    path = tmp_path_factory.mktemp("stories") / "model"
    convert(STORIES / "stories260K.bin", path, tokenizer=STORIES / "tok512.bin")
    return path


def greedy(bundle, gate, tokens: int = 200) -> str:
    """The text after BOS alone: no template, no turns."""
    from safety_align.decoding import decode, prefill
    from safety_align.decoding.decoder import CHUNK, Decoder
    from safety_align.decoding.state import Layout, PromptBatch
    from safety_align.model import unstack_layers

    config = dataclasses.replace(bundle.model_config, scan_layers=False)
    params = unstack_layers(bundle.params, config.layers)
    layout = Layout(prompt=8, prefill=0, steps=-(-tokens // CHUNK) * CHUNK)
    prompt = np.zeros((1, 8), np.int32)
    prompt[0, -1] = bundle.tokenizer.bos_id
    one = np.ones(1, np.int32)
    batch = PromptBatch(
        prompt, prompt < 0, one, np.zeros((1, 0), np.int32), 0 * one, tokens * one, *np.zeros((2, 1), np.float32), 0 * one,
        one.astype(np.float32), one.astype(np.uint32), one.astype(np.uint32),
    )  # fmt: skip
    decoder = Decoder(config, gate, (), (), (bundle.tokenizer.bos_id,), layout)
    state = decode(decoder, params, batch, prefill(decoder, params, batch))
    return bundle.tokenizer.decode(np.asarray(state.tokens[0])[np.asarray(state.rank[0]) >= 0].tolist())


def test_the_trained_model_writes_exactly_the_expected_story(stories):
    expected = (STORIES / "expected_greedy_output.txt").read_text().strip()
    bundle = load_model(stories)
    assert greedy(bundle, None).strip() == expected
    # A signal that is re-evaluated at every step, and that no token sees, changes nothing.
    config, params = add_signal(bundle.model_config, bundle.params, jax.random.key(0))
    extended = dataclasses.replace(bundle, model_config=config, params=params)
    assert greedy(extended, GateConfig(dependence="low", visible=False)).strip() == expected


def test_the_llama2c_file_must_be_whole(stories, tmp_path):
    whole = (STORIES / "stories260K.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-4])
    with pytest.raises(InputError, match="bytes; its header describes"):
        load_llama2c(tmp_path / "cut.bin")
    (tmp_path / "tok.bin").write_bytes((STORIES / "tok512.bin").read_bytes()[:-3])
    with pytest.raises(InputError, match="llama2.c tokenizer"):
        read_llama2c_tokenizer(tmp_path / "tok.bin")


def test_the_command_prints_a_summary_or_one_line(directory, tmp_path):
    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "launch.convert", *map(str, arguments)], capture_output=True, text=True, check=False
        )

    done = command(f"--from={directory}", f"--to={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "qwen2" in done.stdout and "all mapped" in done.stdout
    assert (tmp_path / "out/model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()
    for arguments, message in (
        ((f"--from={directory}", f"--to={tmp_path / 'out'}"), "exists"),
        ((f"--from={tmp_path / 'nothing'}", f"--to={tmp_path / 'new'}"), "not a model"),
        ((f"--from={directory}",), "--to"),
    ):
        done = command(*arguments)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 2 and len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="needs the data files of ../shared/data")
def test_the_comparison_of_an_aligned_model_runs_to_its_table(directory, tmp_path, monkeypatch, capsys):
    """configs/compare/aligned.py --quick: two steps, two behaviours, on rows that a byte for each token fits."""
    monkeypatch.chdir(pathlib.Path(__file__).parents[2])  # where configs/ is
    config = aligned.get_config()
    small = {"steps": 2, "data.batch_size": 2, "data.sequence_length": 2048, "data.max_skipped": 0.9, "eval_every": 2}
    small |= {
        "data.validation_examples": 2,
        "data.drop_leaks": False,  # half a minute, and tested elsewhere
        "model.remat": "none",
        "model.dtype": "float32",
        "mesh.data": 1,
        "mesh.fsdp": 1,
    }
    _, file, start = config.quick["train"][0]
    config.quick["train"] = ((str(tmp_path / "run"), file, start | small),)
    config.quick["eval/behaviors"] = config.quick["eval/benign"] = config.quick["eval/max_new_tokens"] = 2
    left_out = *(f"attacks/{name}" for name in ("direct", "prefill_20", "gcg_transfer")), "benign/dolly", "benign/gsm8k"
    config.quick.update({f"eval/measurements/{name}": None for name in (*left_out, "benign/xstest_safe")})
    del config.quick["eval/measurements/benign/xstest_safe/n"]
    for name in ("attention_only", "gated"):
        config.quick[f"variants/{name}/checkpoint"] = str(tmp_path / "run")
    load = compare.cli.load_config
    monkeypatch.setattr(compare.cli, "load_config", lambda path: config if path == "aligned" else load(path))
    options = [f"--config.model={directory}", f"--config.data.data_dir={DATA}", f"--config.eval.data_dir={DATA}"]
    options += [f"--config.data.cache_dir={tmp_path / 'cache'}", f"--config.eval.cache_dir={tmp_path / 'cache'}"]
    monkeypatch.setattr(
        sys, "argv", ["compare", "--config=aligned", f"--output={tmp_path / 'out'}", "--quick", *options]
    )
    assert compare.main() == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert set(found["variants"]) == {"ungated", "attention_only", "gated"}
    assert all(v["attacks"]["prefill_10"]["n"] == 2 for v in found["variants"].values())
    trained = load_run(tmp_path / "run")
    assert trained.gate.visible and trained.model_config.safety_signal  # the answer attends to [CLS]
    before = load_pretrained(directory, dtype="float32").params
    assert not np.array_equal(before["embedding"], trained.params["embedding"])
    assert "prefill" in capsys.readouterr().out

"""The commands as their users call them: exit codes, one-line errors, files."""

import json
import subprocess
import sys

import pytest

from launch import cli
from launch.defaults import training_defaults
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.training.from_dict import to_train_config

pytestmark = pytest.mark.slow

COMMANDS = ("train", "reference", "generate", "evaluate", "compare", "quickstart", "benchmark")


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = call(f"launch.{command}", "--help")
    assert done.returncode == 0 and f"launch.{command}" in done.stdout


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["launch.train", "--config=configs/none.py", "--workdir=x"], "configs/none.py"),
        (["launch.train", "--config=configs/align_small.py"], "--workdir"),
        (["launch.train", "--config=configs/embedded_base.py", "--workdir=x", "--config.model.heads=3"], "heads"),
        (["launch.train", "--config=configs/embedded_base.py", "--workdir=x", "--config.stesp=3"], "stesp"),
        (["launch.train", "--config=configs/embedded_base.py", "--workdir=x", "--config.steps=many"], "expected a int"),
        (["launch.evaluate", "--config=configs/eval/small.py", "--checkpoint=none", "--output=x"], "none"),
        (
            [
                "launch.evaluate",
                "--config=configs/eval/small.py",
                "--checkpoint=none",
                "--output=x",
                "--config.gate.tau=0",
            ],
            "tau",
        ),
        (["launch.reference", "--config=configs/embedded_sft.py"], "no dpo group"),
        (["launch.generate", "--checkpoint=none", "--prompt=hi"], "none"),
        (["launch.generate", "--checkpoint=none", "--prompt=hi", "--gate.schedule="], "schedule"),
        (["launch.generate", "--checkpoint=none", "--prompt=hi", "--gate.tua=2"], "tua"),
        (["launch.generate", "--checkpoint=none"], "--prompt"),
        (["launch.generate", "--checkpoint=none", "--input=a"], "--output"),
        (["launch.benchmark", "decode", "--size=vast"], "vast"),
        (["launch.benchmark", "train", "--batch=0"], "--batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, tmp_path):
    arguments = [
        a.replace("workdir=x", f"workdir={tmp_path}/x").replace("output=x", f"output={tmp_path}/x") for a in arguments
    ]
    done = call(*arguments)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0]
    assert not done.stdout and not (tmp_path / "x").exists()


def test_a_field_that_no_config_file_sets_can_be_set():
    config = cli.load_config("configs/align_small.py")
    changes = (
        "gate.tau=2", "gate.dependence=high", "data.system_prompt=42", "data.max_skipped=1", "data.labelled=x",
        "trainable=signal", "model.remat=full", "model.width=512", "optimizer.b2=0.9",
    )  # fmt: skip
    cli.apply_overrides(config, [f"--config.{c}" for c in changes], defaults=training_defaults(config))
    made = to_train_config(config.lock().to_dict())
    assert made.gate == GateConfig(tau=2, dependence="high") and made.trainable == "signal"
    assert (made.data.system_prompt, made.pipeline.max_skipped, made.data.labelled) == ("42", 1.0, "x")
    assert (made.model.remat, made.model.width, made.optimizer.b2) == ("full", 512, 0.9)
    for bad, said in (
        ("gate.tua=2", "tau"), ("gate=2", "group"), ("gate.tau=x", "expected a int"), ("dpo.beta=1", "dpo"), ("data.no=1", "no"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            cli.apply_overrides(config, [f"--config.{bad}"], defaults=training_defaults(config))
    plain = cli.load_config("configs/align_small_sft.py")
    with pytest.raises(InputError, match="unknown config key 'gate.tau'"):  # there is no gate to set
        cli.apply_overrides(plain, ["--config.gate.tau=2"], defaults=training_defaults(plain))
    plain.gate = dict(tau=2)  # as one that comes from the config of both variants
    assert to_train_config(plain.to_dict()).gate is None


def test_overrides_keep_types():
    config = cli.load_config("configs/embedded_gated.py")
    cli.apply_overrides(
        config,
        ["--config.steps=7", "--config.lambda_cls=1", "--config.model.safety_signal=false", "--config.init_from=a=b",
            "--config.data.mixture.embedded=2"],
    )  # fmt: skip
    assert config.steps == 7 and config.lambda_cls == 1.0 and isinstance(config.lambda_cls, float)
    assert config.model.safety_signal is False and config.init_from == "a=b" and config.data.mixture.embedded == 2.0
    for bad in ("--config.model=3", "--config.steps.x=3", "--steps=3", "--config.steps"):
        with pytest.raises(InputError):
            cli.apply_overrides(config, [bad])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    done = call(
        "launch.train", "--config=configs/embedded_gated.py", f"--workdir={workdir}", "--config.init_from=", "--config.steps=3",
        "--config.model.preset=tiny", "--config.model.vocab_size=400", "--config.data.batch_size=4", "--config.tokenizer_texts=200",
        "--config.data.validation_examples=20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "query_auroc" in done.stdout and "3/3" in done.stderr
    return workdir


def test_generate_prints_an_answer_and_its_verdict(trained):
    done = call("launch.generate", f"--checkpoint={trained}", "--prompt=How do I bake bread?", "--max-new-tokens=8")
    assert done.returncode == 0 and "checks, stopped:" in done.stderr and "\033" not in done.stdout + done.stderr
    refused = call(
        "launch.generate",
        f"--checkpoint={trained}",
        "--prompt=Hello",
        "--max-new-tokens=8",
        "--gate.threshold=0.0001",
    )
    assert (
        refused.stdout.startswith("Sorry, I cannot fulfill your request because")
        and "malicious query" in refused.stderr
    )


def test_generate_files_resume_and_refuse_another_run(trained, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"id": {i}, "prompt": "ask {i}", "prefill": "{"x" * (i % 2)}"}}\n' for i in range(5)))
    options = [
        "launch.generate",
        f"--checkpoint={trained}",
        f"--input={source}",
        f"--output={output}",
        "--max-new-tokens=8",
    ]
    first = call(*options)
    assert first.returncode == 0 and "5 answers, 5 of them new" in first.stdout
    whole = output.read_text()
    assert [json.loads(line)["id"] for line in whole.splitlines()] == list(range(5))
    lines = whole.splitlines(keepends=True)
    output.write_text("".join(lines[:2]) + lines[2][:20])
    again = call(*options)
    assert again.returncode == 0 and "3 of them new" in again.stdout and output.read_text() == whole
    other = call(*options, "--gate.tau=1")
    assert other.returncode == 2 and "another run" in other.stderr and output.read_text() == whole


def test_evaluate_writes_the_documented_results(trained, tmp_path):
    options = [
        "launch.evaluate", "--config=configs/eval/embedded.py", f"--checkpoint={trained}", f"--output={tmp_path / 'eval'}",
        "--config.behaviors=2", "--config.measurements.attacks.sampling.n=1", "--config.benign=2", "--config.head_examples=4",
        "--config.max_new_tokens=8", "--config.batch_size=2",
    ]  # fmt: skip
    done = call(*options)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    (variant,) = results["variants"].values()
    names = {"direct", "prefill_5", "prefill_10", "prefill_20", "prefill_40", "nested", "gcg_transfer", "sampling"}
    assert names <= variant["attacks"].keys() and list(results["variants"]) == ["gated"]
    for name in names:
        assert {"asr", "low", "high", "n"} <= variant["attacks"][name].keys()
    assert all({"rate", "low", "high", "n"} <= entry.keys() for entry in variant["benign_refused"].values())
    assert all({"auroc", "fpr_at_95_recall", "n"} <= entry.keys() for entry in variant["head"].values())
    assert variant["perplexity"] > 1
    assert (tmp_path / "eval" / "table.md").read_text().strip() == done.stdout.strip()
    assert (tmp_path / "eval" / "report.html").stat().st_size > 10_000
    other = call(*options, "--config.seed=1")
    assert other.returncode == 2 and "another evaluation" in other.stderr


def test_a_benchmark_prints_one_json_object():
    """The others: `test_benchmark_suite.py`."""
    options = ["--size=tiny", "--batch=2", "--prompt=16", "--tokens=8", "--rounds=1", "--json"]
    done = call("launch.benchmark", "decode", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"tokens_per_s", "ratio", "batch", "parameters", "peak_bytes", "cache_bytes"} <= found.keys()
    assert found["batch"] == 2 and found["peak_bytes"] > found["cache_bytes"]
    assert found["ratio"].keys() == {"every", "annealing", "periodic", "random", "first"}
    other = call("launch.benchmark", "decode", "--schedules=every,never")
    assert other.returncode == 2 and "never" in other.stderr


def test_a_shared_beginning_is_measured():
    options = ["--size=tiny", "--prompt=64", "--common=40", "--own=12", "--rounds=1", "--json"]
    done = call("launch.benchmark", "beginning", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"].keys() == {"whole", "rest", "once"} and min(found["seconds"].values()) > 0
    assert found["left_out"] == 48 and found["ratio"] > 0
    for changed, said in (("--common=60", "do not fit"), ("--common=4", "too little")):
        other = call("launch.benchmark", "beginning", *options, changed)
        assert other.returncode == 2 and said in other.stderr


def test_products_are_measured_by_rows():
    done = call("launch.benchmark", "products", "--width=16", "--channels=8", "--weights=2", "--rounds=1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "cpu" in found.pop("device") and found.keys() == {"float32_ms", "digits", "widened", "scaled"}
    assert all({"1", "32", "512"} <= part.keys() and min(part.values()) > 0 for part in found.values())


def test_reading_a_checkpoint_is_measured():
    done = call("launch.benchmark", "load", "--size=mini", "--fsdp=2", "--tensor=2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 4 and 0 < found["parameter_bytes"] < found["peak_bytes"] and found["seconds"] > 0

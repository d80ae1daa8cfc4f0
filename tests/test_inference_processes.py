"""Generation and evaluation by two real processes (gloo), each with its own copy of the model or with half of one: what
one process says, every row once; interruptions; errors said once."""

import json
import signal
import time

import numpy as np
import pytest
from decode_worker import BATCH, GATE, NEW_TOKENS, measure
from processes import TIMEOUT, TINY_RUN, finish, log, start_command

from launch import cli
from launch.defaults import evaluation_defaults
from launch.devices import mesh_sizes
from safety_align.decoding import Generator, Sampling
from safety_align.decoding.jsonl import read_requests
from safety_align.errors import InputError
from safety_align.evaluation.changed import with_changes
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.gates import gate_for
from safety_align.evaluation.run import evaluate_variant
from safety_align.interop import load_model
from safety_align.training.from_dict import to_train_config
from safety_align.training.loop import train

pytestmark = pytest.mark.slow

EVAL = (
    "--config.behaviors=3", "--config.measurements.attacks.sampling.n=1", "--config.benign=3", "--config.head_examples=6",
    "--config.max_new_tokens=8", "--config.batch_size=3", *(f"--config.measurements.attacks.prefill_{k}=none" for k in (10, 20, 40)),
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run, trained so far that its logits and verdicts differ by far more than float32 sums in another order."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    config = cli.load_config(TINY_RUN[0].partition("=")[2])
    cli.apply_overrides(config, [*TINY_RUN[1:], "--config.steps=40", "--config.optimizer.learning_rate=0.01"])
    train(to_train_config(config.to_dict()), workdir, progress=False)
    return workdir


def write_rows(path, count: int):
    """Rows of several lengths, all of one bucket: compiling is most of these tests' time."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        text = "".join(rng.choice(list("how to bake bread?"), int(rng.integers(2, 20)))) + "x"
        made.append({"id": f"row {i}", "prompt": text})
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_two_processes_say_what_one_says(trained):
    """Token ids and verdicts equal to the last one, greedy and sampled: each row has its own random stream, and sums in
    another order change float32 logits by 1e-6 or so, where the two best tokens are hardly ever that near."""
    rows = write_rows(trained.parent / "rows.jsonl", 27)
    alone = measure(str(trained), str(rows), None)
    meshes = ("data=4", "fsdp=2,tensor=2")
    started = start_command(
        trained.parent / "worker", "tests/decode_worker.py", str(trained), str(rows), str(trained.parent / "out"),
        *meshes, processes=2, devices=2,
    )  # fmt: skip
    assert finish(started) == [0, 0], log(trained.parent / "worker")[-3000:]
    first, second = (json.loads((trained.parent / f"out.{i}.json").read_text()) for i in range(2))
    assert len({json.dumps(row[0]) for row in alone["answers"]}) > 9
    assert len({row[1] for row in alone["answers"]}) > 1  # the gate acts on some rows
    for mesh in meshes:
        for found in (first[mesh], second[mesh]):
            assert found["answers"] == alone["answers"], mesh
            assert found["stream"] == (alone["stream"] if mesh == meshes[-1] else None)
            np.testing.assert_allclose(found["scores"], alone["scores"], atol=2e-5)
            np.testing.assert_allclose(found["perplexity"], alone["perplexity"], rtol=1e-5)
            share = found["bytes_here"] / alone["bytes_here"]
            assert share == 2 if mesh == "data=4" else 0.5 <= share < 0.6  # the norms are everywhere
            assert not found["addressable"]


def complete_rows(path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_an_interrupted_generation_goes_on_with_any_number_of_processes(trained):
    count, folder = 150, trained.parent
    rows, output = write_rows(folder / "many.jsonl", count), folder / "answers.jsonl"
    command = (
        "-m", "launch.generate", f"--checkpoint={trained}", f"--input={rows}", f"--output={output}", "--temperature=0.8",
        f"--batch-size={BATCH}", f"--max-new-tokens={NEW_TOKENS}", f"--gate.max_refusal_tokens={GATE.max_refusal_tokens}",
    )  # fmt: skip

    def started_and_past(name: str, before: int, mesh: str) -> list:
        started = start_command(folder / name, *command, f"--mesh={mesh}", processes=2)
        end = time.monotonic() + TIMEOUT
        while complete_rows(output) <= before:
            assert time.monotonic() < end and started[0].poll() is None, log(folder / name)[-3000:]
            time.sleep(0.005)
        return started

    started = started_and_past("killed", 0, "tensor=2")
    for process in started:
        process.kill()
    assert finish(started) == [-signal.SIGKILL] * 2
    killed = complete_rows(output)
    assert 0 < killed < count
    # The second process alone is asked to stop; both do, after the same row.
    started = started_and_past("asked", killed, "data=2")
    started[1].send_signal(signal.SIGTERM)
    assert finish(started, 90) == [1, 1], log(folder / "asked")[-3000:]
    stopped = complete_rows(output)
    assert killed < stopped < count and output.read_bytes().endswith(b"\n")
    assert "the same command goes on" in log(folder / "asked") and "goes on" not in log(folder / "asked", 1)
    assert finish(start_command(folder / "last", *command)) == [0], log(folder / "last")[-3000:]
    assert f"{count} answers, {count - stopped} of them new" in log(folder / "last")

    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in written] == [f"row {i}" for i in range(count)]
    bundle = load_model(trained)
    generator = Generator(bundle, GATE)
    asked = [row.request for row in read_requests(rows, Sampling(0.8), 0)]
    expected = generator.generate(asked, NEW_TOKENS, BATCH)
    assert [(row["response"], row["status"]) for row in written] == [(r.response, r.status) for r in expected]


def test_two_processes_evaluate_as_one_does(trained):
    """The same counts; and parts that are there already, here those of longer prompts, are taken and not measured."""
    output = trained.parent / "eval"
    config = cli.load_config("configs/eval/embedded.py")
    cli.apply_overrides(config, list(EVAL), defaults=evaluation_defaults(config))
    eval_config, overrides = to_eval_config(config.to_dict())
    parts, bundle = trained.parent / "parts", load_model(trained)
    gate = gate_for(bundle, overrides)
    alone = evaluate_variant(bundle, gate, eval_config, "gated", parts, progress=False)
    alone = with_changes({"gated": json.loads(json.dumps(alone))}, {})["gated"]
    (output / "parts").mkdir(parents=True)
    for name in ("nested", "gcg_transfer"):
        (part,) = parts.glob(f"gated.{name}.*.json")
        alone["attacks"][name]["n"] = 77  # not what it would measure
        (output / "parts" / part.name).write_text(json.dumps(alone["attacks"][name]))
    command = (
        "-m", "launch.evaluate", "--config=configs/eval/embedded.py", f"--checkpoint={trained}", f"--output={output}", *EVAL,
        "--mesh=fsdp=2",
    )  # fmt: skip
    assert finish(start_command(output, *command, processes=2)) == [0, 0], log(output)[-3000:]
    found = json.loads((output / "results.json").read_text())["variants"]["gated"]
    assert {p.name for p in (output / "parts").iterdir()} == {p.name for p in parts.iterdir()}
    for group in ("attacks", "benign_refused"):
        assert found[group].keys() == alone[group].keys()
        for name, entry in alone[group].items():
            ours = found[group][name]
            for one, other in zip(ours.pop("samples"), entry.pop("samples"), strict=True):
                np.testing.assert_allclose(one.pop("checks"), other.pop("checks"), atol=2e-4)
                assert one == other
            assert ours == entry, name
    assert [found["attacks"][name]["n"] for name in ("direct", "prefill_5", "sampling")] == [3, 3, 1]
    for name, entry in alone["head"].items():
        np.testing.assert_allclose([found["head"][name][k] for k in entry], list(entry.values()), atol=1e-4)
    np.testing.assert_allclose(found["perplexity"], alone["perplexity"], rtol=1e-5)
    assert (output / "table.md").read_text().strip() in log(output)
    assert "ASR" not in log(output, 1)


def test_bad_input_is_said_once_and_ends_all_processes(trained):
    name = trained.parent / "bad"
    command = ("-m", "launch.generate", f"--checkpoint={trained}", "--input=none.jsonl", f"--output={name}.jsonl")
    assert finish(start_command(name, *command, processes=2), 90) == [2, 2], log(name)[-3000:]
    (line,) = (line for line in log(name).splitlines() if line.startswith("error: "))
    assert "none.jsonl" in line
    assert "error:" not in log(name, 1) and not name.with_suffix(".jsonl").exists()


AGREE = """
import sys
from launch import cli
from safety_align import distributed
from safety_align.errors import InputError

def raised(enter, fails, what):
    try:
        with enter:
            if fails:
                raise InputError(what)
    except InputError as error:
        return str(error)

def main():
    distributed.start(sys.argv[-1].partition("=")[2])
    me = 0 if distributed.is_main() else 1
    assert distributed.gather({"me": "ü" * me}) == [{"me": ""}, {"me": "ü"}]
    assert distributed.from_main(["x" * 1000, None] if me == 0 else None) == ["x" * 1000, None]
    assert raised(distributed.agreed(), False, "") is None
    assert raised(distributed.agreed(), me == 1, "broken") == "process 1: broken"
    assert raised(distributed.agreed(), True, "here") == "here"
    assert raised(distributed.main_first("a"), me == 0, "first") == "first"
    assert raised(distributed.main_first("b"), me == 1, "second") == "process 1: second"
    assert raised(distributed.main_first("c"), False, "") is None
    distributed.must_equal({"a": 1, "b": [2]})
    distributed.must_equal({"a": 1, "input": me})

cli.run(main)
"""


def test_processes_agree_on_what_went_wrong(tmp_path):
    assert finish(start_command(tmp_path / "agree", "-c", AGREE, processes=2), 90) == [2, 2], log(tmp_path / "agree")
    assert "error: process 1: not the same as in process 0: input" in log(tmp_path / "agree")
    assert "rror:" not in log(tmp_path / "agree", 1)


@pytest.mark.parametrize("text", ["", "fsdp", "fsdp=", "fsdp=x", "sequence=2", "fsdp=2,fsdp=2", "fsdp=2;tensor=2"])
def test_a_bad_mesh_is_named(text):
    with pytest.raises(InputError, match="--mesh="):
        mesh_sizes(text)

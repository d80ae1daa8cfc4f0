"""Compiling for a pod: counts against formulas, and the real compiler where libtpu is installed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import embedded_gated
from launch import compile_pod
from launch.compile_pod import check_report
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.model.readout import SignalConfig
from safety_align.pod.analysis import collectives, copied_parameters
from safety_align.pod.report import counted_flops, layers_read
from safety_align.pod.topology import topology
from safety_align.training.flops import signal_flops, train_flops
from safety_align.training.from_dict import to_train_config


def test_copies_before_a_loop_are_counted_where_they_take_memory():
    text = """HloModule jit_decode
%body { %c = bf16[64,64]{0,1} copy(%x) }

ENTRY %main {
  %copy.1 = bf16[4096,4,128]{0,2,1:T(8,128)(2,1)} copy(%p.1), metadata={op_name="jit(decode)/while"}
  %copy.2 = bf16[4096,4,128]{0,2,1:T(8,128)(2,1)S(1)} copy(%p.2)
  ROOT %copy.3 = f32[10]{0} copy(%p.3)
}"""
    assert copied_parameters(text) == 4096 * 4 * 128 * 2 + 40


def test_flops_of_the_formula_are_those_that_xla_counts():
    """Within 2 %: norms, softmax and the optimizer are not in the formula."""
    config = to_train_config(embedded_gated.get_config().to_dict())
    model = preset("small", layers=5, width=512, heads=8, kv_heads=2, head_dim=64, mlp_width=1536)
    config = dataclasses.replace(config, model=model)
    data = config.pipeline
    formula = train_flops(model, data.batch_size, data.sequence_length, data.checks_per_row, square=True)
    assert counted_flops(config) == pytest.approx(formula, rel=0.02)


@pytest.mark.parametrize("kind", ["probe", "row_deep"])
def test_flops_beside_a_frozen_model_are_those_that_xla_counts(kind):
    """A probe's within 3 %: norms, softmax, the signal's own products and the optimizer are not in the formula, and the step is
    short. With rows that are checked the formula is a bound, and the pass without them one from below."""
    config = to_train_config(embedded_gated.get_config().to_dict())
    model = preset("small", layers=6, width=512, heads=8, kv_heads=2, head_dim=64, mlp_width=1536)
    probe, rows = (dataclasses.replace(model, signal=SignalConfig(k, depths=(1, 2, 4))) for k in ("probe", "row_deep"))
    frozen = dict(trainable="signal", init_from="unread", gate=dataclasses.replace(config.gate, visible=False))
    routing = dataclasses.replace(config.routing, visible=False, beside=True)
    data = config.pipeline
    shape = data.batch_size, data.sequence_length, data.checks_per_row
    config = dataclasses.replace(config, model=probe if kind == "probe" else rows, routing=routing, **frozen)
    plain, most = (signal_flops(m, *shape, square=True) for m in (probe, rows))
    if kind == "probe":
        assert counted_flops(config) == pytest.approx(plain, rel=0.03)
    else:
        assert plain < counted_flops(config) < most
    assert layers_read(config) == 4 < model.layers
    assert most < 0.6 * train_flops(model, *shape, square=True)


def test_collectives_are_read_from_the_text():
    text = """
      %a = bf16[16,128]{1,0} all-gather(bf16[1,128]{1,0} %x), dimensions={0}
      %b = (f32[8]{0}, f32[64]{0}) all-gather-start(f32[8]{0} %y), dimensions={0}
      %c = f32[64]{0} all-gather-done(%b)
      %d = f32[4,4]{1,0} all-reduce(f32[4,4]{1,0} %z), to_apply=%add
    """
    assert collectives(text) == {
        "all-gather": {"count": 2, "bytes": 16 * 128 * 2 + 64 * 4},
        "all-reduce": {"count": 1, "bytes": 64},
    }


@pytest.mark.parametrize("name", ["v5e", "v9:2x2", "v5e:4", "v5e:axb"])
def test_an_unknown_topology_is_refused(name):
    with pytest.raises(InputError, match="topology"):
        topology(name)


def needs_libtpu(test):
    """Of real TPU programs: `pytest -m pod`."""
    absent = importlib.util.find_spec("libtpu") is None
    return pytest.mark.pod(pytest.mark.skipif(absent, reason="needs libtpu: pip install -e '.[tpu]'")(test))


@pytest.fixture(scope="module")
def programs():
    """Facts of real TPU programs, see pod_checks.py."""
    command = [sys.executable, str(pathlib.Path(__file__).with_name("pod_checks.py"))]
    environment = dict(os.environ, PYTHONPATH=".")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


RESHARDING = {"all-gather", "all-reduce", "all-to-all", "collective-permute"}


@needs_libtpu
@pytest.mark.parametrize("mesh", ["data", "fsdp", "fsdp_tensor", "sequence"])
def test_a_training_step_moves_what_it_must_and_no_more(programs, mesh):
    """Replicas exchange gradients only; otherwise weights and activations travel, layer by layer."""
    found = programs[mesh]
    assert set(found["collectives"]) == ({"all-reduce"} if mesh == "data" else RESHARDING)
    embedding = 32000 * 512 * 2  # bfloat16
    assert found["largest_gather"] < embedding / 4 and not found["whole_logits"]
    # Parameters and both moments are updated in place: all but the batch is aliased.
    used = found["memory"]
    assert used["aliased"] > 0.99 * used["arguments"]
    if mesh != "data":
        assert used["peak"] < programs["data"]["memory"]["peak"]


@needs_libtpu
def test_decoding_updates_the_cache_in_place(programs):
    found = programs["serve"]
    used, cache = found["decode"], found["cache_bytes"]
    assert cache <= used["aliased"] < 1.05 * cache
    assert used["temporaries"] < 0.2 * cache
    assert set(found["collectives"]) == RESHARDING and found["largest_gather"] < 32000 * 512 * 2 / 4


@needs_libtpu
def test_rows_on_different_devices_stay_apart(programs):
    """What is gathered is a number a row; keys and values of one row and layer alone would be 512 bytes a device."""
    assert programs["serve"]["gather_of_rows_apart"] <= 8 * 4


@needs_libtpu
def test_a_step_of_decoding_moves_weights_and_cache_once(programs):
    """At any schedule, so a check costs next to nothing. Nothing is copied to another layout before the loop, neither weights, which lie as
    it reads them (model/layouts.py), nor the cache; what else a step needs room for is small."""
    needed, steps = programs["steps"]["needed"], programs["steps"]["steps"]
    assert steps.keys() == {"every", "annealing", "off"}
    for schedule, found in steps.items():
        assert 0.99 * needed < found["moved"] < 1.03 * needed, schedule
        assert found["copied"] == 0 and found["temporaries"] < 0.05 * needed, schedule


@needs_libtpu
def test_no_square_of_scores_on_the_chip_at_length_8192(programs):
    """A binding window goes by blocks of 512 queries: their scores and no more."""
    found = programs["attention"]
    (causal, is_kernel), (window, _) = found["causal"], found["window"]
    assert is_kernel and causal < found["square_of_scores"] / 1000
    assert window < found["square_of_scores"] / 8


@needs_libtpu
def test_the_command_reports_and_refuses_what_does_not_fit(tmp_path):
    command = [sys.executable, "-m", "launch.compile_pod", "--config=configs/embedded_gated.py", "--topology=v5e:2x2"]
    done = subprocess.run([*command, f"--json={tmp_path / 'found.json'}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["chips"] == 4 and 0 < found["memory"]["peak"] < found["chip_memory"]
    assert found["counted_over_formula"] == pytest.approx(1, abs=0.02)
    seconds = found["roofline_seconds"]  # 1 where arithmetic is what bounds a step, as it is for the quickstart's rows
    assert found["roofline_mfu"] == pytest.approx(seconds["compute"] / max(seconds.values()))
    assert min(seconds.values()) > 0 and "MFU at the roofline" in done.stdout
    assert {"parameters", "optimizer", "activations", "temporaries"} <= found["memory"].keys()
    large = ["--config.model.preset=llama3_8b"]
    done = subprocess.run([*command, *large], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "does not hold this step" in done.stderr


@pytest.mark.parametrize("option", ["--weights=int8", "--schedule=annealing"])
def test_what_is_of_decoding_is_refused_of_training(option, monkeypatch):
    arguments = ["compile_pod", "--config=configs/embedded_gated.py", "--topology=v5e:2x2", option]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(InputError, match=f"{option.split('=')[0]} is of decoding"):
        compile_pod.main()


def test_a_report_overwrites_nothing_but_a_report(tmp_path):
    config, found = tmp_path / "config.json", tmp_path / "found.json"
    config.write_text('{"topology": "v5e:2x2", "step": "train", "collectives": {}}')
    check_report(found, config)
    for text in ("notes", "{}", "[]"):
        found.write_text(text)
        with pytest.raises(InputError, match="no report of compile_pod"):
            check_report(found, config)
    found.write_text(config.read_text())
    check_report(found, config)
    with pytest.raises(InputError, match="same file"):
        check_report(config, config)

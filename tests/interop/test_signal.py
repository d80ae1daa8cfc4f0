"""The safety signal beside an exported model: what vouches for it, and everything that may not weaken it in silence."""

import dataclasses
import hashlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from make import SIGNAL, TINY, random_params

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.decoding.canaries import TEXTS, Canary, check_arrays, check_signal, measure, overlap, verify
from safety_align.errors import InputError
from safety_align.interop import load_model, load_pretrained, load_unrolled, save_pretrained
from safety_align.interop.convert import convert
from safety_align.interop.export import save_tokenizer_files
from safety_align.interop.signal_file import SignalFacts, read_readout
from safety_align.interop.tensor_file import open_checkpoint, read_header
from safety_align.model import preset
from safety_align.model.readout import SignalConfig, signal_shapes
from safety_align.text import ImportedTokenizer, Tokenizer, Turn, get_template, load_template

GATE, CALIBRATION = GateConfig(tau=2, r2=7, schedule="annealing"), {"threshold": 0.4}
ARRAYS, FACTS = "safety_signal.safetensors", "safety_signal.json"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(directory, parameters, canaries) of a model with a signal that was measured when it was saved."""
    folder = tmp_path_factory.mktemp("exported")
    ours = Tokenizer.train(["How do I bake a loaf of bread?"] * 9, 300)
    save_tokenizer_files(ours, get_template("plain"), folder / "tokenizer")
    tokenizer = ImportedTokenizer(folder / "tokenizer")
    config = dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size)
    params = random_params(config)
    canaries = measure(Bundle(config, params, tokenizer, load_template("huggingface", tokenizer)))
    signal = SignalFacts(GATE, CALIBRATION, canaries)
    save_pretrained(folder / "model", config, params, assets=folder / "tokenizer", signal=signal)
    return folder / "model", params, canaries


@pytest.fixture
def copy(exported, tmp_path):
    shutil.copytree(exported[0], tmp_path / "model")
    return tmp_path / "model"


def edit(directory, **changes):
    """Changes fields of safety_signal.json; None takes one out."""
    facts = json.loads((directory / FACTS).read_text()) | changes
    (directory / FACTS).write_text(json.dumps({name: value for name, value in facts.items() if value is not None}))


def flip(path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_the_signal_travels_beside_the_model(exported, capsys):
    directory, params, canaries = exported
    assert set(read_header(directory / ARRAYS)) == set(SIGNAL)
    assert not any("cls" in name or "safety" in name for name in open_checkpoint(directory))
    loaded = load_model(directory)
    assert (loaded.gate, loaded.calibration, loaded.canaries) == (GATE, CALIBRATION, canaries)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), loaded.params, params)))
    assert "without canaries" not in capsys.readouterr().err
    assert len({c.logit for c in canaries}) == len(TEXTS) and all(np.isfinite(c.logit) for c in canaries)


def test_rounded_weights_leave_the_calibration_behind(exported, capsys):
    canaries = exported[2]
    found, whole = load_unrolled(exported[0], None, weights="int8"), load_unrolled(exported[0], None)
    assert (found.gate, found.calibration, whole.calibration) == (GATE, None, CALIBRATION)
    assert "its calibration is of weights that were not rounded to int8" in capsys.readouterr().err
    assert found.model_config == dataclasses.replace(whole.model_config, param_dtype="int8")
    request = [Request((Turn("user", "How do I bake a loaf of bread?"),))]
    rounded, plain = (Generator(bundle, "off").generate(request, 8)[0] for bundle in (found, whole))
    assert rounded.token_ids and len(rounded.token_ids) == len(plain.token_ids)
    (gated,) = Generator(found).generate(request, 8)
    logit = next(c.logit for c in canaries if c.query == request[0].turns[0].text)
    assert gated.query_score == pytest.approx(1 / (1 + np.exp(-logit)), abs=5e-3)  # rounding moves it, not far


def test_a_calibration_of_rounded_weights_goes_into_no_export(exported, tmp_path):
    known = {
        "threshold": 0.7,
        "alarms": 0.01,
        "doubt": 0.05,
        "n": 9,
        "benign": {},
        "attacks": {},
        "about": {"weights": "int8"},
    }
    with pytest.raises(InputError, match="rounded to int8"):
        convert(exported[0], tmp_path / "out", calibration=known)
    convert(exported[0], tmp_path / "out", calibration=known | {"about": {}})
    assert load_model(tmp_path / "out").gate == dataclasses.replace(GATE, threshold=0.7)


def test_a_calibration_brings_the_reading_that_it_is_of(exported, tmp_path):
    known = {"threshold": 0.7, "alarms": 0.01, "doubt": 0.05, "n": 9, "benign": {}, "attacks": {}}
    for reread in (True, False):
        about = {"config": {"gate": {"reread": reread}}}
        convert(exported[0], tmp_path / str(reread), calibration=known | {"about": about})
        assert load_model(tmp_path / str(reread)).gate == dataclasses.replace(GATE, threshold=0.7, reread=reread)


def test_a_signal_that_rounded_weights_put_out_of_order_is_refused(copy):
    """Canaries that no rounding explains: it is tested on the weights that are going to be used."""
    facts = json.loads((copy / FACTS).read_text())
    for canary in facts["canaries"]:
        canary["logit"] += 1.0
    edit(copy, canaries=facts["canaries"])
    with pytest.raises(InputError, match="no longer measures"):
        load_unrolled(copy, None, weights="int8")


def test_one_flipped_bit_of_the_signal_is_refused(copy):
    entry = read_header(copy / ARRAYS)["cls_embedding"]
    flip(copy / ARRAYS, entry.start + 3, 6)  # bit 30 of its first number: finite, and huge
    with pytest.raises(InputError, match="not the file that safety_signal.json was written for"):
        load_pretrained(copy)


def test_a_signal_beside_another_model_is_refused(exported, copy):
    other = dataclasses.replace(load_pretrained(exported[0]).config, safety_signal=False)
    params = {name: value for name, value in exported[1].items() if name not in SIGNAL}
    params |= {"embedding": params["embedding"] + 1e-3}  # the same shapes, trained a little further
    save_pretrained(copy.parent / "other", other, params)
    shutil.copy(copy.parent / "other/model.safetensors", copy / "model.safetensors")
    with pytest.raises(InputError, match="belongs to another model"):
        load_pretrained(copy)


def test_the_same_model_in_other_files_is_the_same_model(exported, tmp_path):
    loaded = load_pretrained(exported[0])
    save_pretrained(tmp_path / "parts", loaded.config, loaded.params, file_bytes=20_000)
    whole, parts = ((d / FACTS).read_text() for d in (exported[0], tmp_path / "parts"))
    assert json.loads(whole)["checksums"] == json.loads(parts)["checksums"]
    for name in (ARRAYS, FACTS):
        shutil.copy(exported[0] / name, tmp_path / "parts" / name)
    assert load_pretrained(tmp_path / "parts").signal == loaded.signal


@pytest.mark.parametrize(
    "changes, named",
    [
        (dict(gate=dict(dependense="low")), "unknown field 'dependense'"),
        (dict(gate=dict(threshold="high")), "threshold"),
        (dict(gate=dict(threshold=1)), "threshold"),
        (dict(gate=[]), "gate"),
        (dict(gate=None), "required field `gate`"),
        (dict(checksums=None), "must have a gate and checksums"),
        (dict(checksums=dict(signal="0", model="0")), "not the file"),
        (dict(note="hello"), "unknown field `note`"),
        (dict(format=3), "format"),
        (dict(canaries=[]), "2 to 64 canaries"),
        (dict(canaries=[dict(query="x", malicious=True, logit=1.0)]), "both malicious and benign"),
        (dict(canaries=[dict(query="x" * 999, malicious=m, logit=1.0) for m in (True, False)]), "longer than 400"),
        (dict(canaries=[dict(query="x", malicious=True, logit="1")]), "logit"),
    ],
    ids=str,
)
def test_what_is_beside_the_signal_is_read_strictly(copy, changes, named):
    edit(copy, **changes)
    with pytest.raises(InputError, match=named):
        load_pretrained(copy)


def test_a_key_that_is_there_twice_is_refused(copy):
    text = (copy / FACTS).read_text()
    (copy / FACTS).write_text(text.replace('"tau": 2', '"tau": 2, "tau": 99'))
    with pytest.raises(InputError, match="'tau' is there twice"):
        load_pretrained(copy)
    (copy / FACTS).unlink()
    with pytest.raises(InputError, match="only one of"):
        load_pretrained(copy)


def test_a_signal_that_no_longer_measures_is_refused(exported, capsys):
    """Whatever the cause: here the arrays are changed where no checksum sees it."""
    bundle = load_model(exported[0])
    capsys.readouterr()
    huge = np.asarray(bundle.params["cls_embedding"]).copy()
    huge.view(np.uint32)[3] ^= 1 << 30
    with pytest.raises(InputError, match="cls_embedding holds"):
        check_signal(dataclasses.replace(bundle, params=bundle.params | {"cls_embedding": huge}), "here")
    moved = bundle.params | {"safety_bias": bundle.params["safety_bias"] - 5}
    with pytest.raises(InputError, match="no longer measures"):
        check_signal(dataclasses.replace(bundle, params=moved), "here")
    dead = bundle.params | {"safety_kernel": 0 * bundle.params["safety_kernel"]}
    with pytest.raises(InputError, match="the same logit"):
        check_signal(dataclasses.replace(bundle, params=dead), "here")
    flat = bundle.params | {"final_norm": {"scale": 0 * bundle.params["final_norm"]["scale"]}}  # hidden states are 0
    with pytest.raises(InputError, match="the same logit"):
        check_signal(dataclasses.replace(bundle, params=flat), "here")
    assert capsys.readouterr().err == ""
    check_signal(dataclasses.replace(bundle, canaries=None), "here")
    assert "here: its safety signal was saved without canaries" in capsys.readouterr().err


def logits(*values) -> list[Canary]:
    return [with_logit(c, v) for c, v in zip(TEXTS, values, strict=False)]


def with_logit(canary: Canary, logit: float) -> Canary:
    return Canary(canary.query, canary.malicious, canary.answer, logit)


def test_logits_must_come_back_and_not_be_one_constant():
    stored = logits(4, 5, 6, 7, -4, -5, -6, -3)
    verify(stored, logits(4.4, 5, 6, 7, -4, -5, -6, -3), "here")
    for measured, named in (
        ((4, 5, 6, 6, -4, -5, -6, -3), "poison my boss.' had logit 7, now 6"),
        ((4, 5, 6, 7, -4, -5, np.nan, -3), "now nan"),
        ((np.inf, 5, 6, 7, -4, -5, 2, -3), "now inf"),
        ((-4,) * 8, "the same logit"),
    ):
        with pytest.raises(InputError, match=f"^here: .*{named}"):
            verify(stored, logits(*measured), "here")


def test_a_signal_that_tells_nothing_is_said_to():
    assert overlap(logits(4, 5, 6, 7, -4, -5, -6, -3, 1, 1, 0, 0)) is None
    assert overlap(logits(4, 5, 6, 0.5, -4, -5, 1, -3)) == "queries: lowest malicious logit 0.5, highest benign 1"
    assert overlap(logits(4, 5, 6, 7, -4, -5, -6, -3, 1, 0, 0, 0)).startswith("answers")


def test_numbers_that_no_signal_has_are_refused():
    fine = {"cls_embedding": np.ones(3), "safety_bias": np.float32(-9)}
    check_arrays(fine, "here")
    for value in (np.nan, np.inf, -1e5):
        with pytest.raises(InputError, match="safety_bias holds"):
            check_arrays(fine | {"safety_bias": np.float32(value)}, "here")


@pytest.mark.parametrize(
    "readout",
    [SignalConfig("probe", depths=(1, 2), heads=2, features=3), SignalConfig("row_deep", rank=2, depths=(1,))],
)
def test_every_read_out_travels_beside_the_model(readout, exported, tmp_path):
    """Arrays of three axes, the kind, and the logits: to the bit."""
    assets = exported[0].parent / "tokenizer"
    tokenizer = ImportedTokenizer(assets)
    config = dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size, signal=readout)
    gate = dataclasses.replace(GATE, visible=False)
    params = random_params(config)
    canaries = measure(Bundle(config, params, tokenizer, load_template("huggingface", tokenizer), gate))
    directory = tmp_path / "model"
    save_pretrained(directory, config, params, assets=assets, signal=SignalFacts(gate, CALIBRATION, canaries))
    assert set(read_header(directory / ARRAYS)) == set(signal_shapes(config))
    facts = json.loads((directory / FACTS).read_text())
    assert facts["format"] == 3
    loaded = load_model(directory)  # the canaries come back
    assert loaded.model_config.signal == readout and loaded.gate == gate
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), loaded.params, params)))
    for change, said in ((dict(signal=None), "format 3"), (dict(signal={"kind": "nose"}), "signal.kind")):
        broken = tmp_path / said.replace(" ", "_")
        shutil.copytree(directory, broken)
        edit(broken, **change)
        with pytest.raises(InputError, match=said):
            load_pretrained(broken)


@pytest.fixture
def apart(exported, tmp_path):
    """(a model's directory, its signal's)"""
    shutil.copytree(exported[0], tmp_path / "bare")
    (tmp_path / "signal").mkdir()
    for name in (ARRAYS, FACTS):
        (tmp_path / "bare" / name).rename(tmp_path / "signal" / name)
    return tmp_path / "bare", tmp_path / "signal"


def moved(directory, scale: float) -> None:
    """Noise on every weight of a model: `scale` of its spread."""
    found, rng = load_pretrained(directory), np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + scale * float(np.std(x)) * rng.standard_normal(x.shape), found.params)
    shutil.rmtree(directory / "..noise", ignore_errors=True)
    save_pretrained(directory / "..noise", found.config, params, values=found.values)
    (directory / "..noise" / "model.safetensors").replace(directory / "model.safetensors")
    shutil.rmtree(directory / "..noise")


def test_a_signal_of_its_own_directory_goes_beside_its_model(exported, apart, tmp_path):
    bare, signal = apart
    assert not load_pretrained(bare).config.safety_signal
    convert(bare, tmp_path / "whole", signal=signal)
    loaded = load_model(tmp_path / "whole")
    assert (loaded.gate, loaded.calibration, loaded.canaries) == (GATE, CALIBRATION, exported[2])
    assert (tmp_path / "whole" / ARRAYS).read_bytes() == (exported[0] / ARRAYS).read_bytes()


def test_a_signal_beside_a_similar_model_is_tested_anew_and_loses_its_calibration(exported, apart, tmp_path, capsys):
    bare, signal = apart
    moved(bare, 0.02)
    with pytest.raises(InputError, match="--similar takes it where its test sentences hold"):
        convert(bare, tmp_path / "whole", signal=signal)
    convert(bare, tmp_path / "whole", signal=signal, similar=True)
    assert "its calibration is of the model that it was trained beside" in capsys.readouterr().err
    loaded = load_model(tmp_path / "whole")  # its canaries are those of the model that it stands beside now
    assert (loaded.gate, loaded.calibration) == (GATE, None)
    assert loaded.canaries != exported[2] and [c.query for c in loaded.canaries] == [c.query for c in exported[2]]
    facts = [json.loads((folder / FACTS).read_text()) for folder in (signal, tmp_path / "whole")]
    assert facts[1]["trained_beside"] == facts[0]["checksums"]["model"] != facts[1]["checksums"]["model"]
    # Small steps would lead anywhere: what has moved once does not move again.
    (tmp_path / "second").mkdir()
    for name in (ARRAYS, FACTS):
        shutil.copy(tmp_path / "whole" / name, tmp_path / "second" / name)
    moved(bare, 0.02)
    with pytest.raises(InputError, match="has been put beside a similar model before"):
        convert(bare, tmp_path / "third", signal=tmp_path / "second", similar=True)
    convert(tmp_path / "whole", tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / FACTS).read_text())["trained_beside"] == facts[1]["trained_beside"]


def test_beside_its_own_model_a_signal_is_tested_as_always(exported, apart, tmp_path):
    """`similar` makes it no weaker there, and takes nothing from it."""
    bare, signal = apart
    convert(bare, tmp_path / "whole", signal=signal, similar=True)
    loaded = load_model(tmp_path / "whole")
    assert (loaded.calibration, loaded.canaries) == (CALIBRATION, exported[2])
    shift = 0.15 * np.ptp([c.logit for c in exported[2]])  # too far for its own model, not for a similar one
    edit(signal, canaries=[dict(vars_of(c), logit=c.logit + shift) for c in exported[2]])
    with pytest.raises(InputError, match="no longer measures"):
        convert(bare, tmp_path / "again", signal=signal, similar=True)


def vars_of(canary: Canary) -> dict:
    return {name: getattr(canary, name) for name in canary.__struct_fields__}


def swapped(canaries: list[dict], answers: bool) -> None:
    """Labels canaries of a kind as they are ranked, but for the two in the middle, which stood the other way round."""
    ranked = sorted((c for c in canaries if bool(c["answer"]) is answers), key=lambda c: c["logit"])
    low, high = ranked[len(ranked) // 2 - 1 : len(ranked) // 2 + 1]
    for place, canary in enumerate(ranked):
        canary["malicious"] = place >= len(ranked) // 2
    low["malicious"], high["malicious"] = True, False
    low["logit"], high["logit"] = high["logit"], low["logit"]


@pytest.mark.parametrize("change", ["noise", "order", "order of answers", "threshold", "no canaries", "no checksums"])
def test_a_signal_that_does_not_work_beside_another_model_is_refused(apart, tmp_path, change):
    bare, signal = apart
    moved(bare, 2.0 if change == "noise" else 1e-4)
    facts = json.loads((signal / FACTS).read_text())
    canaries = facts["canaries"]
    if change == "order":
        swapped(canaries, answers=False)
    elif change == "order of answers":  # though it was confused by queries beside its own model too
        swapped(canaries, answers=True)
        for canary in canaries:
            if not canary["answer"]:
                canary["malicious"] = not canary["malicious"]
    elif (
        change == "threshold"
    ):  # every verdict moves less than a quarter of the spread, and one passes the gate's threshold
        logits = [c["logit"] for c in canaries]
        middle = max((c for c in canaries if not c["answer"]), key=lambda c: c["logit"])
        middle["malicious"] = True
        facts["gate"]["threshold"] = float(1 / (1 + np.exp(-(middle["logit"] + 0.1 * np.ptp(logits)))))
        for canary in canaries:
            canary["logit"] += 0.2 * np.ptp(logits)
    no_canaries, no_checksums = change == "no canaries", change == "no checksums"
    edit(signal, canaries=None if no_canaries or no_checksums else canaries, gate=facts["gate"])
    if no_checksums:
        edit(signal, format=1, checksums=None)
    wanted = {
        "noise": "no longer measures .* train a signal for this model",
        "order": "no longer ranks .* above",
        "order of answers": "no longer ranks .* above",
        "threshold": "the other side of the gate's threshold",
        "no canaries": "without canaries",
        "no checksums": "has no checksums",
    }[change]
    with pytest.raises(InputError, match=wanted):
        convert(bare, tmp_path / "whole", signal=signal, similar=True)
    assert not (tmp_path / "whole").exists()


def test_where_a_signal_may_not_go(exported, apart, tmp_path):
    bare, signal = apart
    with pytest.raises(InputError, match="has a safety signal already"):
        convert(exported[0], tmp_path / "whole", signal=signal)
    with pytest.raises(InputError, match="is no safety signal"):
        convert(bare, tmp_path / "whole", signal=bare)
    with pytest.raises(InputError, match="similar is of a signal that stands apart"):
        convert(exported[0], tmp_path / "whole", similar=True)


def test_the_signal_to_try_is_whole_and_of_the_shape_that_its_model_has():
    folder = pathlib.Path(__file__).parents[2] / "signals/qwen2.5-coder-0.5b-instruct"
    readout = read_readout(folder)
    arrays = {name: entry.shape for name, entry in read_header(folder / ARRAYS).items()}
    assert arrays == signal_shapes(preset("qwen2_5_0_5b", signal=readout))
    facts = json.loads((folder / FACTS).read_text())
    assert facts["checksums"]["signal"] == hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()
    canaries = [Canary(**values) for values in facts["canaries"]]
    assert len(canaries) == len(TEXTS) and overlap(canaries) is None
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6


def test_a_probe_of_an_older_file_is_one(tmp_path):
    """Files had no members before there could be several."""
    folder = pathlib.Path(__file__).parents[2] / "signals/qwen2.5-coder-0.5b-instruct"
    facts = json.loads((folder / FACTS).read_text())
    assert facts["signal"].pop("members") == 1
    (tmp_path / FACTS).write_text(json.dumps(facts))
    assert read_readout(tmp_path).members == 1

"""The generator: buckets, order, streaming, files of requests."""

import dataclasses
import functools
import json
import resource

import jax
import numpy as np
import pytest
from make import random_params

from safety_align import sizes
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Result, Sampling, score_queries
from safety_align.decoding.generator import rows_for
from safety_align.decoding.jsonl import ResultsFile, read_requests, to_json
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)
TEMPLATE = get_template("plain")
RESULT = Result("fine", [1], False, 0.1, 0.2, "benign", None, None, "eos", [])
CONFIG = preset("tiny", vocab_size=TOKENIZER.vocab_size)
WORD = TOKENIZER.encode("b")[0]


@functools.cache
def calibrated(seed: int):
    """Random parameters with a head that finds three of the seven `requests()` malicious, none of them narrowly."""
    params = random_params(CONFIG, seed, scale=0.3)
    params |= {"safety_bias": np.float32(0)}
    scores = score_queries(Bundle(CONFIG, params, TOKENIZER, TEMPLATE), [q.turns for q in requests()])
    return params | {"safety_bias": np.float32(-np.mean(np.sort(np.log(scores / (1 - scores)))[3:5]))}


def make(bias: float = 0.0, seed: int = 0, max_length: int = 512, gated: bool = True, **gate) -> Generator:
    params = calibrated(seed)
    params = params | {"safety_bias": params["safety_bias"] + np.float32(bias)}
    bundle = Bundle(CONFIG, params, TOKENIZER, TEMPLATE, GateConfig())
    return Generator(bundle, GateConfig(**gate) if gated else "off", max_length=max_length)


def requests(count: int = 7):
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        text = "".join(rng.choice(list("abcdefg hij?"), int(rng.integers(1, 60)))) + "x"
        prefill = "Sure, here" if i % 3 == 1 else ""
        sampling = Sampling(1.0, 20, 0.9) if i % 2 else Sampling()
        made.append(Request((Turn("user", text),), prefill, seed=i, sampling=sampling))
    return made


def key(result):
    return result.token_ids, result.status, result.stop_reason, result.transition_step, [c.step for c in result.checks]


def test_idle_rows_of_a_large_model_are_left_out_and_of_a_small_one_are_not():
    """500 M parameters, 400 slots: 4e11 operations a row."""
    assert [rows_for(n, 40, 400, 500_000_000) for n in (1, 2, 3, 5, 10, 11, 20, 21, 40)] == [
        1,
        2,
        3,
        5,
        10,
        20,
        20,
        40,
        40,
    ]
    assert [rows_for(n, 7, 400, 500_000_000) for n in range(1, 8)] == [1, 7, 7, 7, 7, 7, 7]  # 5 idle rows are 2e12
    assert {rows_for(n, 60, 400, 1_000_000) for n in range(1, 61)} == {60}
    assert rows_for(1, 1, 4096, 10**10) == 1


@pytest.mark.slow
@pytest.mark.parametrize("bias", [-1.0, 0.0, 0.25])
def test_results_depend_on_neither_batch_nor_order(bias):
    generator, asked = make(bias), requests()
    together = [key(r) for r in generator.generate(asked, 20, batch_size=4)]
    assert [key(r) for r in generator.generate(asked[::-1], 20, batch_size=3)][::-1] == together
    assert [key(generator.generate([q], 20, batch_size=1)[0]) for q in asked] == together
    assert len({json.dumps(k) for k in together}) > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "gate",
    [
        dict(mode="rewind"), dict(mode="insert"), dict(dependence="high"), dict(dependence="low"),
        dict(schedule="annealing:4/1,12/4"), dict(gated=False), dict(schedule="periodic:3", confirm_every_step=False),
    ],
    ids=str,
)  # fmt: skip
def test_a_stream_is_the_answer_and_takes_nothing_back(gate):
    for seed in range(3):
        generator = make(-0.3, seed, **gate)
        for request in requests(6):
            (whole,) = generator.generate([request], 24, batch_size=1)
            pieces = list(generator.stream(request, 24))
            assert pieces[-1].result.token_ids == whole.token_ids
            assert all(piece.result is None for piece in pieces[:-1])
            assert "".join(p.text for p in pieces) == whole.response


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["insert", "rewind"])
def test_nothing_is_released_that_no_benign_check_vouches_for(mode):
    """Each released token before a refusal, or before an alert at the end, was among those that a benign check had seen as
    the latest: an attacker who feeds back what was released has nothing that was condemned."""
    seen = set()
    for seed in range(3):
        generator = make(-0.3, seed, mode=mode, r2=4)
        asked = [dataclasses.replace(q, prefill="Sure, here is how to" * (i % 3)) for i, q in enumerate(requests(9))]
        for result in generator.generate(asked, 24, batch_size=9):
            benign = [c.stop for c in result.checks if c.probability < 0.5 and c.start < c.stop]
            if result.refused:
                released = result.refusal_start
                seen.add("mid-answer" if released else "at once")
            elif result.status == "alert":
                released = len(result.token_ids)
                seen.add("alert")
            else:
                continue
            assert released in (0, *benign)
    assert {"mid-answer", "at once"} <= seen


@pytest.mark.slow
def test_a_refusal_behind_text_starts_a_paragraph_and_one_alone_does_not():
    texts = set()
    for mode in ("insert", "rewind"):
        for seed in range(3):
            for result in make(-0.3, seed, mode=mode, r2=4).generate(requests(9), 24, batch_size=9):
                if result.refused:
                    kept, _, rest = result.response.partition("Sorry, I cannot fulfill your request because")
                    assert rest is not None and (not kept or kept.endswith("\n\n"))
                    texts.add(bool(kept))
    assert texts == {True, False}


def reads_the_word(word: int) -> dict:
    """Parameters of a head that measures one thing: the share of `word` in what `[CLS]` reads. Attention is uniform; all
    tokens are alike but for this one, whose mark the first layer carries to `[CLS]`."""
    params = jax.tree.map(np.zeros_like, calibrated(0))
    for norm in [params["final_norm"], *(params["layers"]["block"][name] for name in ("attention_norm", "mlp_norm"))]:
        norm["scale"] = np.ones_like(norm["scale"])
    params["embedding"][:, 0] = params["cls_embedding"][0] = 1
    params["embedding"][word, 1] = 1
    attention = params["layers"]["block"]["attention"]
    attention["wv"][0, 1, 0, 0] = attention["wo"][0, 0, 0, 2] = 1
    params["safety_kernel"][2] = 10
    return params | {"safety_bias": np.float32(-42)}


@pytest.mark.parametrize("at", ["start", "middle", "end"])
def test_a_malicious_stretch_anywhere_in_a_prefilled_answer_is_found(at):
    """A head that reads one thing, the share of a word's tokens in its window: what stands in a long benign prefill is
    found wherever it is, and what a benign window has vouched for before it stays."""
    params = reads_the_word(WORD)
    generator = Generator(
        Bundle(CONFIG, params, TOKENIZER, TEMPLATE, GateConfig(r1=4, r2=4, r3=4, visible=False)), max_length=512
    )
    filler, bad = TOKENIZER.encode("a"), [WORD] * 8
    before, behind = {"start": (0, 40), "middle": (20, 20), "end": (40, 0)}[at]
    ids = tuple(filler * before + bad + filler * behind)
    plain, hidden = generator.generate(
        [
            Request((Turn("user", "go on"),), prefill_ids=tuple(filler * 48)),
            Request((Turn("user", "go on"),), prefill_ids=ids),
        ],
        8,
    )
    assert not plain.refused and plain.token_ids[:48] == filler * 48
    # A window of four tokens with one such word is benign, with two it is not; what was vouched for stays.
    assert hidden.refused and hidden.refusal_start == (before + 1 if before else 0)
    assert hidden.token_ids[: hidden.refusal_start] == list(ids[: hidden.refusal_start])


def test_a_malicious_query_is_refused_at_once_and_explained_by_the_model():
    generator = make(50.0)
    (result,) = generator.generate([requests()[0]], 8)
    assert result.refused and result.status == "malicious_query" and result.refusal_start == result.transition_step == 0
    assert result.response.startswith("Sorry, I cannot fulfill your request because")
    assert result.query_score == 1.0 or result.query_score > 0.999
    high = make(50.0, dependence="high").generate([requests()[0]], 8)[0]
    assert high.response == "Sorry, I cannot fulfill your request." and high.stop_reason == "refusal_end"


@pytest.mark.slow
def test_low_dependence_reports_and_does_not_act():
    generator = make(50.0, dependence="low")
    (result,) = generator.generate([requests()[0]], 8)
    assert result.status == "malicious_query" and not result.refused and result.refusal_start is None


@pytest.mark.slow
def test_the_first_check_is_the_score_of_the_query():
    generator, asked = make(), requests()
    scores = score_queries(Bundle(CONFIG, calibrated(0), TOKENIZER, TEMPLATE), [q.turns for q in asked])
    found = [r.query_score for r in generator.generate(asked, 4)]
    # float32 in two batch shapes.
    np.testing.assert_allclose(found, scores, atol=2e-5)


def test_prompts_that_cannot_be_answered_are_named():
    generator = make(max_length=64)
    with pytest.raises(InputError, match="request 1: the prompt is empty"):
        generator.generate([requests()[0], Request((Turn("user", " "),))], 8)
    with pytest.raises(InputError, match="request 0: .*longer than the cache"):
        generator.generate([Request((Turn("user", "long " * 80),))], 8)
    with pytest.raises(InputError, match="max_new_tokens"):
        generator.generate(requests(), 0)
    with pytest.raises(InputError, match="vocabulary"):
        generator.generate([Request((Turn("user", "x"),), prefill_ids=(10**6,))], 8)
    for ids in ((2**40,), (10**30,), (-1,), (True,), (1.0,), ("1",)):
        with pytest.raises(InputError, match="vocabulary"):
            generator.encode([Request((Turn("user", "x"),), prefill_ids=ids)], 8)
    with pytest.raises(InputError, match="max_refusal_tokens"):
        make(max_refusal_tokens=2).generate(requests()[:1], 8)
    with pytest.raises(InputError, match="safety signal"):
        config = preset("tiny", vocab_size=TOKENIZER.vocab_size, safety_signal=False)
        Generator(Bundle(config, random_params(config), TOKENIZER, TEMPLATE), GateConfig())


@pytest.mark.parametrize("seed", [-1, 2**32, True, 1.0, "1"])
def test_a_seed_that_is_none_is_named(seed):
    with pytest.raises(InputError, match="request seed"):
        Request((Turn("user", "x"),), seed=seed)


@pytest.mark.parametrize("turns, prefill", [("half \ud83d", ""), ("x", "\udfff"), (3, "")])
def test_text_that_no_file_can_hold_is_refused_at_once(turns, prefill):
    with pytest.raises(InputError, match="surrogate|string"):
        Request((Turn("user", turns),), prefill=prefill)


def test_equal_requests_without_a_seed_draw_different_tokens_and_the_same_call_the_same():
    generator, asked = make(), [Request((Turn("user", "x"),), sampling=Sampling(1.0))] * 6
    seeds = [e.request.seed for e in generator.encode(asked, 8)]
    assert len(set(seeds)) == 6 and seeds == [e.request.seed for e in generator.encode(asked, 8)]
    given = [Request((Turn("user", "x"),), seed=0, prefill_ids=ids) for ids in ((), np.zeros(0, np.int32), (3, 4))]
    assert [(e.request.seed, e.prefill.tolist()) for e in generator.encode(given, 8)] == [(0, []), (0, []), (0, [3, 4])]


# --- files ------------------------------------------------------------------------------------------------------------


def test_rows_of_a_file(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(
        '{"id": "a", "prompt": "p\u2028q", "prefill": "Sure", "history": [["u", "v"]]}\n\n{"id": 2, "prompt": "r"}\n',
        "utf-8",
    )
    first, second = read_requests(path, Sampling(), 0)
    assert (first.id, second.id) == ("a", 2)
    assert [(t.role, t.text) for t in first.request.turns] == [("user", "u"), ("assistant", "v"), ("user", "p\u2028q")]
    assert first.request.prefill == "Sure" and first.request.seed != second.request.seed


@pytest.mark.parametrize(
    "line, named",
    [
        (b"{", "not JSON"),
        (b'{"id": 1, "prompt": "\xff"}', "not UTF-8"),
        (b"[]", "object"),
        (b'{"id": 1, "prompt": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"id": 1, "prompt": ' + b"[" * 200 + b"]" * 200 + b"}", "nested too deeply"),
        (b'{"id": 1, "prompt": "\\ud83d"}', "surrogate"),
        (b'{"id": "\\udfff", "prompt": "x"}', "surrogate"),
        (b'{"id": 1, "id": 2, "prompt": "x"}', "'id' is there twice"),
        (b'{"prompt": "x"}', "id"),
        (b'{"id": true, "prompt": "x"}', "id"),
        (b'{"id": 1.0, "prompt": "x"}', "id"),
        (b'{"id": 1' + b"0" * 5000 + b', "prompt": "x"}', "too large"),
        (b'{"id": NaN, "prompt": "x"}', "NaN"),
        (b'{"id": 1, "prompt": " "}', "prompt is empty"),
        ('{"id": 1, "prompt": "\u3000\u2029\\n\\t"}'.encode(), "prompt is empty"),
        (b'{"id": 1, "prompt": null}', "prompt"),
        (b'{"id": 1, "prompt": "x", "prefil": "y"}', "prefil"),
        (b'{"id": 1, "prompt": "x", "prefill": 3}', "prefill"),
        (b'{"id": 1, "prompt": "x", "history": [["a"]]}', "history"),
        (b'{"id": 1, "prompt": "x", "history": "ab"}', "history"),
        (b'{"id": 1, "prompt": "x", "history": [["a", " "]]}', "history has an empty turn"),
        (b'{"id": 0, "prompt": "again"}', "already used in line 1"),
    ],
)
def test_bad_rows_of_a_file_are_named_by_line(tmp_path, line, named):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": 0, "prompt": "fine"}\n' + line + b"\n")
    with pytest.raises(InputError, match="line 2.*" + named) as caught:
        read_requests(path, Sampling(), 0)
    assert len(str(caught.value).removeprefix(str(path))) < 200 and "\n" not in str(caught.value)


def test_an_output_file_resumes_and_refuses_another_run(tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"id": {i}, "prompt": "ask {i}"}}\n' for i in range(4)))
    rows = read_requests(source, Sampling(), 0)
    results = make().generate([r.request for r in rows], 8)
    file = ResultsFile(output, {"gate": 1})
    assert file.done(rows) == 0
    lines = [to_json(row.id, result) for row, result in zip(rows, results, strict=True)]
    file.append(lines[:2])
    with output.open("a") as cut:
        cut.write(lines[2][:30])
    again = ResultsFile(output, {"gate": 1})
    assert again.done(rows) == 2
    again.append(lines[2:])
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [0, 1, 2, 3]
    before = output.read_bytes()
    for line in ("[" * 9999, "[0]", '{"id": 0, "id": 0}'):
        output.write_text(line + "\n")
        with pytest.raises(InputError, match="not what this command wrote"):
            again.done(rows)
    output.write_bytes(before)
    with pytest.raises(InputError, match="another run.*gate"):
        ResultsFile(output, {"gate": 2})
    other = tmp_path / "mine.jsonl"
    other.write_text("my notes\n")
    with pytest.raises(InputError, match="choose another --output"):
        ResultsFile(other, {"gate": 1})
    assert output.read_bytes() == before and other.read_text() == "my notes\n"
    # A mark without its file is somebody's too; so is what a link leads to.
    (tmp_path / "new.jsonl.run.json").write_text('{"mine": 1}')
    with pytest.raises(
        InputError, match=r"new.jsonl.run.json, without its new.jsonl, is of another run.*delete that one"
    ):
        ResultsFile(tmp_path / "new.jsonl", {"gate": 1})
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="is a link"):
        ResultsFile(tmp_path / "link.jsonl", {"gate": 1})
    assert (tmp_path / "new.jsonl.run.json").read_text() == '{"mine": 1}' and not (tmp_path / "new.jsonl").exists()
    assert not (tmp_path / "absent").exists()


def test_a_disk_that_is_full_keeps_what_was_answered(tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"id": {i}, "prompt": "ask {i}"}}\n' for i in range(4)))
    rows = read_requests(source, Sampling(), 0)
    lines = [to_json(row.id, RESULT) for row in rows]
    file = ResultsFile(output, {})
    file.append(lines[:2])
    before = output.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*out\.jsonl"):
            file.append(lines[2:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ResultsFile(output, {}).done(rows) == 2 and output.read_bytes() == before


def test_a_cache_that_cannot_be_is_refused(monkeypatch):
    monkeypatch.setattr(sizes, "device_memory", lambda device, devices: 2**10)
    with pytest.raises(InputError, match="a cache of 4 rows"):
        make().generate([Request((Turn("user", "hi"),))] * 4, 8, batch_size=4)


def test_an_output_row_has_the_documented_fields():
    (result,) = make(gated=False).generate(requests(1), 8)
    row = json.loads(to_json("x", result))
    assert list(row) == [
        "id", "response", "refused", "query_score", "max_score", "reread_score", "status", "transition_step", "stop_reason", "checks",
    ]  # fmt: skip
    assert row["query_score"] is None and row["status"] == "ungated" and row["checks"] == []
    (gated,) = make().generate(requests(1), 8)
    row = json.loads(to_json("x", gated))
    assert row["checks"][0][0] == 0 and row["max_score"] == max(p for _, p in row["checks"])

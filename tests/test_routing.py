"""Placement and masks against the dense oracle, and what the placement promises (docs/method.md section 3).

Tolerances: two float32 computations of the same sums in another order agree to about 1e-5 of their scale.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import TINY, forward, random_params, random_rows, random_segment

from safety_align.decoding.config import GateConfig
from safety_align.decoding.verdict import Verdict, judge_query, judge_response
from safety_align.decoding.windows import is_frozen, read_window
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, kernels, layers
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import (
    CLS_TOKEN,
    IGNORED,
    Check,
    Kind,
    RoutingConfig,
    causal_mask,
    cls_mask,
    reference_mask,
    sample_checks,
)

SEEDS = range(6)


def oracle_masks(batch, packed, window=None):
    names = ("tokens", "positions", "segments", "content", "cls_index", "cls_range", "cls_kinds")
    return np.stack(
        [
            reference_mask(*(getattr(batch, n)[i] for n in names), [len(s.prompt) for s in row], window)
            for i, row in enumerate(packed)
        ]
    )


@pytest.mark.parametrize("reach", ["own", "row"])
@pytest.mark.parametrize("seed", SEEDS)
def test_masks_equal_the_oracle(seed, reach):
    """Also where the range of a `[CLS]` is the whole row: it reads its own conversation's content all the same."""
    batch, packed = random_rows(np.random.default_rng(seed))
    if reach == "row":
        batch = batch.replace(cls_range=np.broadcast_to(np.int32([0, batch.tokens.shape[1]]), batch.cls_range.shape))
    expected = oracle_masks(batch, packed)
    routing = batch.inputs[-1]
    mask = np.array(causal_mask(routing.segments) & (routing.segments > 0)[:, :, None])
    rows = np.array(cls_mask(routing))
    for i in range(len(packed)):
        for m, slot in enumerate(batch.cls_index[i]):
            if slot == IGNORED:
                assert not rows[i, m].any()
            else:
                mask[i, slot] = rows[i, m]
    np.testing.assert_array_equal(mask, expected)


@functools.partial(jax.jit, static_argnums=0)
def masked_forward(config, params, mask, *arguments):
    """The model, with this mask in every layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "routed_attention", lambda q, k, v, *_: kernels.masked_attention(q, k, v, mask))
        return SafetyTransformer(config).apply({"params": params}, *arguments)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("window", [None, 3])
def test_the_model_equals_the_model_with_dense_oracle_masks(scan, window):
    config = dataclasses.replace(TINY, scan_layers=scan, sliding_window=window)
    for seed in SEEDS:
        batch, packed = random_rows(np.random.default_rng(seed))
        params = random_params(config, seed)
        ours = forward(config, params, *batch.inputs)
        oracle = masked_forward(config, params, oracle_masks(batch, packed, window), *batch.inputs)
        real, options = batch.segments > 0, dict(rtol=1e-4, atol=1e-4, err_msg=f"seed {seed}")
        np.testing.assert_allclose(ours.logits[real], oracle.logits[real], **options)
        np.testing.assert_allclose(ours.safety_logits, oracle.safety_logits, **options)


def one_row(segment: Segment, length: int = 40):
    row = Batch.of([[segment]], RowShape(length, checks=6))
    return row, row.inputs


def ordinary_slots(segment: Segment) -> tuple[np.ndarray, np.ndarray]:
    """Slots of prompt and of response tokens in a row that holds this segment alone."""
    visible = sum(c.kind == Kind.QUERY for c in segment.checks)
    prompt = len(segment.prompt)
    return np.arange(prompt), prompt + visible + np.arange(len(segment.response))


def test_no_gradient_from_query_logits_to_the_signal_and_some_from_the_response():
    segment = random_segment(np.random.default_rng(0), 8, 9)
    _, arguments = one_row(segment)
    params = random_params()
    prompt, response = ordinary_slots(segment)

    def total(embedding, slots):
        out = forward(TINY, params | {"cls_embedding": embedding}, *arguments)
        return jnp.sum(jnp.where(slots[:, None], out.logits[0], 0) ** 2)

    gradient = jax.jit(jax.grad(total))
    asked = np.isin(np.arange(len(arguments[0][0])), prompt), np.isin(np.arange(len(arguments[0][0])), response)
    assert (gradient(params["cls_embedding"], asked[0]) == 0).all()
    assert (jnp.abs(gradient(params["cls_embedding"], asked[1])).max()) > 1e-3


def test_hidden_windows_change_no_token():
    """Window copies are seen by no token: the logits with and without them are the same to the bit."""
    segment = random_segment(np.random.default_rng(1), 7, 10, windows=3)
    bare = dataclasses.replace(segment, checks=segment.checks[:1])
    params = random_params()
    slots = np.concatenate(ordinary_slots(segment))
    logits = [forward(TINY, params, *one_row(s)[1]).logits[0, slots] for s in (segment, bare)]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_where_the_response_does_not_see_the_signal_no_token_feels_it(seed):
    """The query's copy stands behind the response: the tokens are the plain model's, and verdicts read them as such."""
    segment = random_segment(np.random.default_rng(seed), 7, 10, windows=3)
    hidden = dataclasses.replace(
        segment,
        checks=tuple(dataclasses.replace(c, hidden=True) if c.kind == Kind.QUERY else c for c in segment.checks),
    )
    bare, params = dataclasses.replace(segment, checks=()), random_params()
    out, plain, seen = (
        SafetyTransformer(TINY).apply({"params": params}, *one_row(s)[1]) for s in (hidden, bare, segment)
    )
    np.testing.assert_array_equal(out.logits[0, :17], plain.logits[0, :17])
    assert out.safety_logits[0, 0] == pytest.approx(float(seen.safety_logits[0, 0]), abs=1e-5)  # the query's: as ever
    windows = [i for i, c in enumerate(segment.checks) if c.kind == Kind.WINDOW]
    assert any(abs(out.safety_logits[0, i] - seen.safety_logits[0, i]) > 1e-4 for i in windows)
    row = one_row(hidden)[0]
    assert row.tokens[0, 17 : hidden.length].tolist() == [CLS_TOKEN] * len(hidden.checks)
    # To the oracle a copy that is not the visible one is of any other kind.
    kinds = np.where(row.cls_kinds == Kind.QUERY, Kind.TEXT, row.cls_kinds)
    expected = oracle_masks(dataclasses.replace(row, cls_kinds=kinds), [[hidden]])[0]
    ours = np.asarray(cls_mask(row.inputs[-1]))[0, : len(hidden.checks)]
    np.testing.assert_array_equal(ours, expected[row.cls_index[0, : len(hidden.checks)]])


@pytest.mark.parametrize("seed", SEEDS)
def test_prompt_logits_are_the_plain_language_models(seed):
    """Also with the gate off for the response. The tolerance is for one sum over another number of masked slots."""
    rng = np.random.default_rng(seed)
    segment = random_segment(rng, int(rng.integers(3, 10)), int(rng.integers(1, 10)))
    params = random_params(seed=seed)
    plain_config = dataclasses.replace(TINY, safety_signal=False)
    plain_params = {k: v for k, v in params.items() if k not in ("cls_embedding", "safety_kernel", "safety_bias")}
    plain = dataclasses.replace(segment, checks=())
    row, arguments = one_row(plain)
    # A plain LM counts positions from 0; RoPE is relative, so [CLS]'s place at 0 changes nothing.
    shifted = row.tokens, np.maximum(row.positions - 1, 0), arguments[2]
    expected = forward(plain_config, plain_params, *shifted).logits[0]
    p, r = len(segment.prompt), len(segment.response)
    ours = forward(TINY, params, *one_row(segment)[1]).logits[0]
    np.testing.assert_allclose(ours[ordinary_slots(segment)[0]], expected[:p], rtol=1e-4, atol=1e-4)
    off = forward(TINY, params, *arguments).logits[0]
    np.testing.assert_allclose(off[: p + r], expected[: p + r], rtol=1e-4, atol=1e-4)


def test_a_packed_segment_is_as_if_alone():
    rng = np.random.default_rng(3)
    first, second = random_segment(rng, 6, 5), random_segment(rng, 5, 7)
    params = random_params()
    packed = Batch.of([[first, second]], RowShape(48, checks=8))
    together = forward(TINY, params, *packed.inputs)
    alone = forward(TINY, params, *one_row(second)[1])
    start, size = first.length, second.length
    np.testing.assert_allclose(together.logits[0, start : start + size], alone.logits[0, :size], rtol=1e-4, atol=1e-4)
    copies = len(first.checks)
    np.testing.assert_allclose(
        together.safety_logits[0, copies : copies + len(second.checks)],
        alone.safety_logits[0, : len(second.checks)],
        rtol=1e-4,
        atol=1e-4,
    )


def test_rule_4_the_signal_never_reads_auxiliary_tokens():
    """Changing every auxiliary token changes no verdict; changing one content token does."""
    rng = np.random.default_rng(5)
    prompt = rng.integers(1, 97, 10).astype(np.int32)
    content = np.zeros(10, bool)
    content[3:7] = True
    response = rng.integers(1, 97, 6).astype(np.int32)
    check = (Check(Kind.QUERY, 0, 10, 1.0),)

    # Attention is causal: what content tokens carry upwards may depend on the tokens before them. One layer has no
    # such path, so there the verdict is a function of the content alone.
    config = dataclasses.replace(TINY, layers=1)
    params = random_params(config)

    def verdict(ids):
        segment = Segment(ids, content, response, np.ones(6, bool), check)
        return float(forward(config, params, *one_row(segment)[1]).safety_logits[0, 0])

    other = np.where(content, prompt, (prompt + 11) % 96 + 1).astype(np.int32)
    assert verdict(other) == verdict(prompt)
    changed = prompt.copy()
    changed[4] = prompt[4] % 96 + 1
    assert abs(verdict(changed) - verdict(prompt)) > 1e-4


def test_targets_are_the_next_response_tokens_over_the_signal():
    segment = Segment(
        np.array([1, 2, 3], np.int32), np.array([False, True, True]), np.array([4, 5, 6], np.int32),
        np.array([True, True, False]), (Check(Kind.QUERY, 0, 3, 1.0), Check(Kind.WINDOW, 3, 5, 0.0)),
    )  # fmt: skip
    shape = RowShape(10, checks=3)
    row = jax.tree.map(lambda array: array[0], Batch.of([[segment]], shape))
    assert row.tokens.tolist() == [1, 2, 3, CLS_TOKEN, 4, 5, 6, CLS_TOKEN, 0, 0]
    assert row.positions.tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 0, 0]
    trained = np.flatnonzero(row.loss_weights)
    assert trained.tolist() == [2, 4, 5]  # the last prompt token predicts the first response token
    assert row.targets[trained].tolist() == [4, 5, 6]
    unsafe = Batch.of([[dataclasses.replace(segment, train_lm=False)]], shape)
    assert unsafe.loss_weights.sum() == 0
    assert row.cls_labels.tolist() == [1.0, 0.0, 0.0]
    assert row.cls_index.tolist() == [3, 7, IGNORED]


def test_segments_that_do_not_fit_are_refused():
    segment = random_segment(np.random.default_rng(0), 8, 8)
    with pytest.raises(InputError, match="slots"):
        Batch.of([[segment]], RowShape(segment.length - 1, checks=8))
    with pytest.raises(InputError, match="checks"):
        Batch.of([[segment]], RowShape(64, checks=len(segment.checks) - 1))


def inference_windows(r1: int, r2: int, r3: int, answer: int) -> set[tuple[bool, int, int]]:
    """(query read, start, stop) of every check that the decoder can make of an answer of `answer` tokens.

    Walks the verdict automaton over both outcomes of every check, and over checks that a schedule leaves out. Under
    "low" nothing acts on a verdict, so every mode that reads an answer lasts as long as it can.
    """
    gate = GateConfig(dependence="low", tau=2, r1=r1, r2=r2, r3=r3)
    start = [judge_query(Verdict.start(1), np.array([m]), np.zeros(1, np.int32), gate)[0] for m in (False, True)]
    states, found = {tuple(int(leaf[0]) for leaf in jax.tree.leaves(s)) for s in start}, set()
    leaves, tree = jax.tree.flatten(start[0])
    for count in range(1, answer + 1):
        # Some states more than once, so that few numbers of them are compiled for.
        padded = np.resize(np.array(sorted(states), np.int32), (1 << (len(states) + 15).bit_length(), len(leaves)))
        rows = tree.unflatten(padded.T)
        length = np.full(len(padded), count, np.int32)
        due = ~np.asarray(is_frozen(rows, length, gate))
        view = read_window(rows, length, gate)
        window = [np.asarray(x)[due] for x in view]
        found |= {(bool(query), max(0, int(lo)), int(hi)) for lo, hi, query in zip(*window, strict=True)}
        for malicious in (False, True):
            after = judge_response(rows, due, np.full(len(due), malicious), length, view.stop, 1, gate)[0]
            states |= {tuple(map(int, row)) for row in np.array(jax.tree.leaves(after)).T}
    return found


@pytest.mark.parametrize("r1, r2, r3, answer", [(3, 2, 3, 9), (2, 4, 1, 8), (1, 1, 2, 6), (9, 9, 9, 4), (2, 2, 2, 1)])
def test_windows_trained_on_are_those_that_inference_reads(r1, r2, r3, answer):
    """The two sets are equal: of rule 1 (beside the query), and of rules 2 and 3 together."""
    rng, prompt = np.random.default_rng(0), 7
    config = RoutingConfig(r1, r2, r3, windows=20_000)
    first, *others = sample_checks(rng, prompt, answer, 1.0, 0.0, config)
    assert (first.kind, first.start, first.stop, first.label) == (Kind.QUERY, 0, prompt, 1.0)
    trained = set()
    for check in others:
        beside_query = check.kind == Kind.ALERTED
        assert check.label == (1.0 if beside_query else 0.0)  # the turn's; the response's
        assert check.start == 0 if beside_query else check.start >= prompt
        trained.add((beside_query, 0 if beside_query else check.start - prompt, check.stop - prompt))
    assert trained == inference_windows(r1, r2, r3, answer)


@pytest.mark.parametrize("field", ["r1", "r2", "r3"])
def test_empty_windows_are_refused(field):
    with pytest.raises(InputError, match=f"routing.{field}"):
        RoutingConfig(**{field: 0})


def test_without_a_label_and_nobody_to_see_it_the_query_has_no_copy():
    rng = np.random.default_rng(0)
    for visible in (True, False):
        config = RoutingConfig(windows=2, visible=visible)
        known, unknown = (sample_checks(rng, 5, 8, label, 1.0, config) for label in (0.0, None))
        assert [c.hidden for c in known if c.kind == Kind.QUERY] == [not visible]
        assert [c.weight for c in unknown if c.kind == Kind.QUERY] == [0.0] * visible and len(unknown) == 2 + visible

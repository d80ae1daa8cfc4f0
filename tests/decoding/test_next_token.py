"""What a row does at one token, by its verdict: ends, goes on, or turns into a refusal. Every case is set up, none is drawn."""

import jax.numpy as jnp
import numpy as np
import pytest

from safety_align.decoding.config import GateConfig
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.next_token import next_token
from safety_align.decoding.state import DecodeState, Layout, PromptBatch, Stop, Trace
from safety_align.decoding.verdict import Mode, Verdict
from safety_align.model import Cache, preset

EOS, OTHER = 2, 40
REFUSAL, CONTINUED = (11, 12), (21, 22, 23)
MODEL = preset("tiny", scan_layers=False)
LAYOUT = Layout(prompt=4, prefill=0, steps=16)
MODES = (Mode.BENIGN, Mode.ALERT, Mode.CONFIRMED, Mode.QUERY, Mode.REFUSING)


def step(gate: GateConfig, modes, drawn: int, start: int = -1, length: int = 5, safe: int = 3, limit: int = 16, refuse=False,
         relapse=False):  # fmt: skip
    """`next_token` of one row for each of `modes`, whose most likely token is `drawn`, at the fifth token."""
    rows = len(modes)
    decoder = Decoder(MODEL, gate, REFUSAL, CONTINUED, (EOS,), LAYOUT)

    def all_rows(value, dtype=jnp.int32):
        return jnp.full(rows, value, dtype)

    zero = all_rows(0)
    batch = PromptBatch(
        jnp.zeros((rows, 4), jnp.int32), jnp.ones((rows, 4), bool), all_rows(4), jnp.zeros((rows, 0), jnp.int32), zero,
        all_rows(16), all_rows(0.0, jnp.float32), all_rows(0.0, jnp.float32), zero, all_rows(1.0, jnp.float32),
        all_rows(0, jnp.uint32), all_rows(0, jnp.uint32),
    )  # fmt: skip
    verdict = Verdict.start(rows).replace(
        mode=jnp.array(modes, jnp.int32),
        safe_length=all_rows(safe),
        transition=all_rows(4),
        refusal_start=all_rows(start),
    )
    rank = jnp.broadcast_to(jnp.where(jnp.arange(16) < length, jnp.arange(16), -1), (rows, 16))
    state = DecodeState(
        jnp.int32(5), zero, zero, all_rows(length), jnp.zeros((rows, 16), jnp.int32), rank, all_rows(limit), zero, verdict,
        Trace.empty(rows, 18), jnp.full(rows, jnp.nan), Cache(()),
    )  # fmt: skip
    logits = jnp.zeros((rows, 64)).at[:, drawn].set(9.0)
    return next_token(decoder, batch, state, logits, all_rows(refuse, bool), all_rows(relapse, bool))


def test_an_answer_ends_where_the_model_ends_it_unless_an_alert_is_pending():
    found = step(GateConfig(), MODES[:4], EOS)
    assert found.stop.tolist() == [Stop.EOS, Stop.RUNNING, Stop.EOS, Stop.EOS]
    assert found.verdict.mode.tolist() == [Mode.BENIGN, Mode.REFUSING, Mode.CONFIRMED, Mode.QUERY]
    assert found.token.tolist() == [EOS, CONTINUED[0], EOS, EOS]
    assert found.length.tolist() == [5, 3, 5, 5]  # what no check vouched for is gone
    goes_on = step(GateConfig(), MODES[:4], OTHER)
    assert goes_on.stop.tolist() == [Stop.RUNNING] * 4 and goes_on.token.tolist() == [OTHER] * 4
    assert goes_on.verdict.mode.tolist() == list(MODES[:4])


@pytest.mark.parametrize("safe, first", [(0, REFUSAL[0]), (3, CONTINUED[0])])
def test_a_refusal_goes_back_to_what_was_vouched_for_and_starts_as_that_asks(safe, first):
    found = step(GateConfig(max_refusal_tokens=9), [Mode.BENIGN], OTHER, safe=safe, refuse=True)
    # The verdict of a check is settled before this function: here it only acts.
    assert found.limit.tolist() == [5 + 9]
    begun = step(GateConfig(), [Mode.REFUSING], OTHER, start=safe, length=safe)
    assert begun.token.tolist() == [first] and begun.stop.tolist() == [Stop.RUNNING]


def test_a_refusal_ends_behind_its_prefix_and_not_within():
    within = [step(GateConfig(), [Mode.REFUSING], EOS, start=3, length=3 + i) for i in range(len(CONTINUED))]
    assert [int(s.token[0]) for s in within] == list(CONTINUED) and {int(s.stop[0]) for s in within} == {Stop.RUNNING}
    behind = step(GateConfig(), [Mode.REFUSING], EOS, start=3, length=3 + len(CONTINUED))
    assert behind.stop.tolist() == [Stop.REFUSAL_END]
    fixed = step(GateConfig(dependence="high"), [Mode.REFUSING], OTHER, start=3, length=3 + len(CONTINUED))
    assert fixed.stop.tolist() == [Stop.REFUSAL_END]


def test_the_cap_stops_every_row_and_says_as_what():
    found = step(GateConfig(), MODES, OTHER, start=0, length=5, limit=5)
    assert found.stop.tolist() == [Stop.MAX_TOKENS] * 4 + [Stop.REFUSAL_LIMIT]


def test_a_relapse_stops_and_keeps_what_was_vouched_for_and_the_prefix():
    found = step(GateConfig(), [Mode.REFUSING], OTHER, start=1, length=9, safe=6, relapse=True)
    assert found.stop.tolist() == [Stop.RELAPSE] and found.length.tolist() == [6]
    early = step(GateConfig(), [Mode.REFUSING], OTHER, start=1, length=9, safe=1, relapse=True)
    assert early.length.tolist() == [1 + len(CONTINUED)]
    assert np.asarray(early.rank[0]).max() < int(early.length[0])

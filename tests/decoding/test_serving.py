"""Requests that come while others are answered: nobody's answer, place in the queue or figures depend on the others."""

import functools

import numpy as np
import pytest
from make import random_params

from safety_align.benchmarks.latency import Arrivals, Served, _shaped, figures, served
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Result, Sampling
from safety_align.decoding.decoder import CHUNK
from safety_align.decoding.serving import AllThere, Rows, serve
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)
TOKENS, ROWS = 20, 8  # two of them are refilled at once


class Clock:
    """Passes when one sleeps, and by `step` seconds whenever it is told."""

    def __init__(self):
        self.time, self.sleeps, self.looks = 0.0, [], 0

    def now(self) -> float:
        self.looks += 1
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.time += seconds


@functools.cache
def generator(gated: bool) -> Generator:
    config = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    bundle = Bundle(config, random_params(config, 3, scale=0.3), TOKENIZER, get_template("plain"), GateConfig())
    return Generator(bundle, GateConfig() if gated else "off", max_length=512)


def asked(count: int) -> list[Request]:
    return [
        Request((Turn("user", "bake " * (1 + i % 5)),), seed=i, sampling=Sampling(1.0) if i % 2 else Sampling())
        for i in range(count)
    ]


def engine(gated: bool, requests: list[Request], clock: Clock):
    """(rows whose every turn takes a second, the requests encoded, seeds in the order in which they got a row)."""
    made = generator(gated)
    encoded = made.encode(requests, TOKENS)
    rows, got = made.rows(encoded, ROWS, TOKENS), []
    make, run = rows.make, rows.run

    def noted(some, count):
        got.extend(one.request.seed for one in some)
        return make(some, count)

    def timed(*arguments):
        assert not rows.idle
        clock.time += 1
        return run(*arguments)

    rows.make, rows.run = noted, timed
    return rows, encoded, got


@pytest.mark.parametrize("gated", [True, False])
def test_when_requests_come_changes_no_answer_and_each_has_one_in_its_turn(gated):
    requests = asked(19)
    expected = generator(gated).generate(requests, TOKENS, batch_size=19)
    rng = np.random.default_rng(0)
    for mean in (0.0, 0.3, 4.0):
        order, clock = rng.permutation(19), Clock()
        times = np.cumsum(rng.exponential(mean, 19))
        rows, encoded, got = engine(gated, requests, clock)
        arrivals = Arrivals([(int(i), encoded[i]) for i in order], times, clock)
        found = list(served(rows, arrivals, clock))
        assert sorted(i for i, _ in found) == list(range(19))  # each once
        assert got == order.tolist()  # first come, first served
        for i, one in found:
            a, b = one.result, expected[i]
            assert (a.token_ids, a.status, a.stop_reason) == (b.token_ids, b.status, b.stop_reason)
            assert [c.step for c in a.checks] == [c.step for c in b.checks]
            np.testing.assert_allclose([c.probability for c in a.checks], [c.probability for c in b.checks], atol=2e-5)
            assert one.came < one.first <= one.last and one.came == arrivals.came[i]
    assert len({tuple(result.token_ids) for result in expected}) > 5


def test_all_that_are_there_are_answered_in_the_rows_that_generate_has():
    requests, clock = asked(19), Clock()
    rows, encoded, got = engine(True, requests, clock)
    reports = list(serve(rows, AllThere(enumerate(encoded))))
    found = {i: result for report in reports for i, result in report.ended.items()}
    expected = generator(True).generate(requests, TOKENS, batch_size=ROWS)
    assert [found[i].token_ids for i in range(19)] == [result.token_ids for result in expected]
    assert got == list(range(19)) and rows.idle


def test_nobody_starves_behind_a_stream_of_others():
    """Twice as many come as can be answered: each still waits for those before it alone."""
    requests, clock = asked(40), Clock()
    rows, encoded, got = engine(False, requests, clock)
    found = dict(served(rows, Arrivals(list(enumerate(encoded)), np.arange(40) / 6, clock), clock))
    assert len(found) == 40 and got == list(range(40))
    turns = -(-TOKENS // CHUNK)
    for i, one in found.items():
        assert one.last - one.came <= turns * (2 + i // ROWS)


def test_an_idle_engine_sleeps_until_somebody_comes():
    """Once for each request that comes alone, for all of the time, and nothing is computed meanwhile (`engine` asserts it)."""
    requests, clock = asked(4), Clock()
    rows, encoded, _ = engine(False, requests, clock)
    found = dict(served(rows, Arrivals(list(enumerate(encoded)), [100.0, 200.0, 300.0, 300.0], clock), clock))
    turns = -(-TOKENS // CHUNK)
    assert clock.sleeps == [100.0, 100.0 - turns, 100.0 - turns]
    assert clock.looks < 40
    for one in found.values():  # sampled answers may end before
        assert one.first == one.came + 1 and one.last <= one.came + turns
    whole = found[0]
    assert len(whole.result.token_ids) == TOKENS and whole.first_tokens == CHUNK
    assert whole.to_first == 1 and whole.per_token == (turns - 1) / (TOKENS - CHUNK)


def test_a_request_that_does_not_fit_is_named_and_nobody_elses_answer_is_lost():
    requests, clock = asked(6), Clock()
    rows, encoded, _ = engine(False, requests, clock)
    odd = (
        Request((Turn("user", "bread " * 99),), seed=6),
        Request((Turn("user", "bake"),), prefill="bread " * 99, seed=6),
    )
    for request, what in zip(odd, ("prompt", "prefill")):
        (longer,) = generator(False).encode([request], TOKENS)
        waiting = AllThere([*enumerate(encoded[:3]), ("odd", longer)])
        answers = serve(rows, waiting)
        with pytest.raises(InputError, match=f"{what} of .* tokens in rows of"):
            rows.check(longer)
        with pytest.raises(InputError, match=what):
            for _ in answers:
                pass
        assert ("odd", longer) in waiting.waiting
        waiting.waiting.remove(("odd", longer))
        ended = [key for report in serve(rows, waiting) for key in report.ended]
        assert sorted(ended) == [0, 1, 2] and rows.idle


def test_rows_that_could_never_be_refilled_are_refused():
    rows, *_ = engine(False, asked(4), Clock())
    for share in (0, ROWS + 1):
        with pytest.raises(InputError, match="at least as many"):
            Rows(rows.decoder, rows.params, rows.tokenizer, rows.make, ROWS, share)


def test_the_benchmark_shapes_answers_and_refuses_by_lot():
    requests, limits = asked(9), np.arange(3, 12)
    refused = np.arange(9) % 3 == 0
    made = generator(True)
    encoded = made.encode(requests, TOKENS)
    rows = made.rows(encoded, ROWS, TOKENS)
    rows.make = _shaped(rows.make, limits, refused)
    found = {i: r for report in serve(rows, AllThere(enumerate(encoded))) for i, r in report.ended.items()}
    for i, result in found.items():
        assert result.refused == refused[i]
        assert refused[i] or len(result.token_ids) <= limits[i]
    assert sum(len(found[i].token_ids) == limits[i] for i in range(9)) >= 4


def test_figures_are_of_the_requests_that_have_them():
    def one(came, first, first_tokens, last, tokens):
        result = Result("", list(range(tokens)), False, 0.0, 0.0, "benign", None, None, "eos", [])
        return Served(came, first, first_tokens, last, result)

    made = figures({"a": one(1.0, 3.0, 8, 5.0, 12), "b": one(2.0, 3.0, 4, 3.0, 4)}, 8.0)
    assert made["answered_per_s"] == 0.25 and made["tokens_per_s"] == 2.0
    assert made["first_token_p50_ms"] == 1500 and made["first_token_p99_ms"] == pytest.approx(1990)
    assert made["per_token_p50_ms"] == made["per_token_p99_ms"] == 500  # of "a": the four tokens behind the first eight
    assert figures({"b": one(2.0, 3.0, 4, 3.0, 4)}, 8.0)["per_token_p99_ms"] is None

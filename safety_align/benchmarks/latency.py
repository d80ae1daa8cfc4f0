"""`launch.benchmark latency`: how long requests wait that come at a given rate, and what the engine makes of that rate."""

import collections
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import flax.linen as nn
import jax
import numpy as np

from safety_align.benchmarks.throughput import WORDS
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.decoding.requests import Encoded, Result
from safety_align.decoding.serving import AllThere, Asked, Batcher, Rows, serve
from safety_align.decoding.state import PromptBatch
from safety_align.model import init_params, preset
from safety_align.sizes import parameter_count
from safety_align.text import Tokenizer, Turn, get_template

LOADS = (0.5, 0.8, 0.95, 1.2)
"""Offered rates, as parts of what the engine answers when all requests are there."""

REFUSED = (0.0, 0.5, 0.9)
"""Parts of the requests that are refused at the first check, where there is a gate."""

FAR = 1e9
"""A logit that no check reaches."""


class Clock(Protocol):
    """Seconds from any beginning, and how to let them pass."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class RealClock:
    """The machine's."""

    now = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)


class Arrivals:
    """The `Source` of requests that come at given times.

    times: of each, in seconds from now, ascending. came: the moment at which each request came, by key, whenever it was looked at.
    """

    def __init__(self, asked: Sequence[Asked], times: Sequence[float], clock: Clock):
        begun, self._clock = clock.now(), clock
        self.waiting: collections.deque[Asked] = collections.deque()
        self.came = {key: begun + at for (key, _), at in zip(asked, times, strict=True)}
        self._coming = collections.deque(asked)

    @property
    def complete(self) -> bool:
        return not self._coming

    def look(self) -> None:
        now = self._clock.now()
        while self._coming and self.came[self._coming[0][0]] <= now:
            self.waiting.append(self._coming.popleft())

    def wait(self) -> None:
        if self._coming:
            self._clock.sleep(max(0.0, self.came[self._coming[0][0]] - self._clock.now()))


@dataclasses.dataclass(frozen=True)
class Served:
    """When one request came, when the host first read a token of its answer that nothing can take back (`first_tokens` of them at
    once), and when it read the last. In seconds of the clock."""

    came: float
    first: float
    first_tokens: int
    last: float
    result: Result

    @property
    def to_first(self) -> float:
        """Seconds, in which the request waited for a row too."""
        return self.first - self.came

    @property
    def per_token(self) -> float | None:
        """Seconds for each token behind those read first; None where there are none."""
        more = len(self.result.token_ids) - self.first_tokens
        return (self.last - self.first) / more if more > 0 else None


def served(rows: Rows, arrivals: Arrivals, clock: Clock) -> Iterator[tuple[object, Served]]:
    """Each request's key and times, when its answer has ended. One of which nothing was released is answered at its end."""
    first: dict[object, tuple[float, int]] = {}
    for report in serve(rows, arrivals):
        now = clock.now()
        for key, count in report.released.items():
            if count:
                first.setdefault(key, (now, count))
        for key, result in report.ended.items():
            yield key, Served(arrivals.came[key], *first.pop(key, (now, len(result.token_ids))), now, result)


def latency(size: str, batch: int, requests: int, tokens: int, dtype: str = "float32", progress=None) -> dict:
    """`requests` requests of 4 to 24 words and answers of a quarter of `tokens` to all of them, Poisson arrivals, `batch` rows.

    The gate checks every token; with it some requests are refused at the first check, and a refusal is a sentence. Returns by
    setting, "off" or the refused part, and load: offered_per_s and answered_per_s (requests), tokens_per_s, and the 50th and the 99th
    percentile of milliseconds to the first token and for each token behind; and capacity_per_s by setting.
    """
    rng, clock = np.random.default_rng(0), RealClock()
    texts = [" ".join(rng.choice(WORDS, int(rng.integers(4, 25)))) + f" {i}" for i in range(requests)]
    limits, lot = rng.integers(-(-tokens // 4), tokens + 1, requests), rng.permutation(requests)
    gaps = rng.exponential(size=requests)
    tokenizer = Tokenizer.train([*texts, *[GateConfig().refusal_text] * 9] * 3, 400)
    model = preset(size, vocab_size=tokenizer.vocab_size, dtype=dtype, param_dtype=dtype)
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    gate = GateConfig(dependence="high")
    bundle = Bundle(model, params, tokenizer, get_template("plain"), gate)
    asked = [Request((Turn("user", text),), seed=i) for i, text in enumerate(texts)]
    found: dict = {"capacity_per_s": {}}
    for refused in (None, *REFUSED):
        name = "off" if refused is None else f"{refused:.0%}"
        generator = Generator(bundle, "off" if refused is None else gate)
        encoded = generator.encode(asked, tokens)
        cut = round((refused or 0.0) * requests)
        rows = generator.rows(encoded, batch, tokens)
        rows.make = _shaped(rows.make, limits, lot < cut)
        for _ in serve(rows, AllThere(enumerate(encoded[: 2 * batch]))):  # compiles
            pass
        began = clock.now()
        for _ in serve(rows, AllThere(enumerate(encoded))):
            pass
        capacity = requests / (clock.now() - began)
        found["capacity_per_s"][name] = capacity
        if progress:
            progress(1)
        for load in LOADS:
            times = np.cumsum(gaps) / (load * capacity)
            began = clock.now()
            times_of = dict(served(rows, Arrivals(list(enumerate(encoded)), times, clock), clock))
            for key, value in figures(times_of, clock.now() - began).items():
                found.setdefault(key, {})[f"{name} {load:g}"] = value
            found.setdefault("offered_per_s", {})[f"{name} {load:g}"] = load * capacity
            if progress:
                progress(1)
    return found | {"requests": requests, "batch": batch, "parameters": parameter_count(model)}


def figures(times: dict[object, Served], seconds: float) -> dict[str, float | None]:
    """What `latency` says of the requests of one run, which took so many seconds in all; None where no answer has more tokens than
    were read first."""
    behind = [one.per_token for one in times.values() if one.per_token is not None]
    made = {
        "answered_per_s": len(times) / seconds,
        "tokens_per_s": sum(len(one.result.token_ids) for one in times.values()) / seconds,
    }
    for name, values in (("first_token", [one.to_first for one in times.values()]), ("per_token", behind)):
        for percent in (50, 99):
            made[f"{name}_p{percent}_ms"] = 1000 * float(np.percentile(values, percent)) if values else None
    return made


def _shaped(make: Batcher, limits: np.ndarray, refused: np.ndarray) -> Batcher:
    """`make`, but the request of seed i has `limits[i]` new tokens at most, and all its checks are malicious, or none: what a random
    head says is far from either threshold."""

    def shaped(encoded: Sequence[Encoded], rows: int) -> PromptBatch:
        batch, seeds = make(encoded, rows), [one.request.seed for one in encoded]
        limit, threshold = np.array(batch.limit), np.array(batch.threshold)
        limit[: len(seeds)] = limits[seeds]
        threshold[: len(seeds)] = np.where(refused[seeds], -FAR, FAR)
        return batch.replace(limit=limit, threshold=threshold)

    return shaped

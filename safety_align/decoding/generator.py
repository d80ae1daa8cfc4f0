"""The host's side of the decoder: buckets, batches, streaming."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import numpy as np

from safety_align import distributed, sharding
from safety_align.bundle import Bundle
from safety_align.decoding.config import WIDTHS, GateConfig, describe, differences
from safety_align.decoding.decoder import REREAD_CHUNK, Decoder, chunk_of
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.loop import decode
from safety_align.decoding.prefix import Prefix, can_share, fits, read_once, shared
from safety_align.decoding.refill import SHARES
from safety_align.decoding.requests import Encoded, Request, Result, encode_request, make_batch, read_result, shown_ids
from safety_align.decoding.serving import AllThere, Rows, serve
from safety_align.decoding.state import DecodeState, Layout, PromptBatch, Stop
from safety_align.decoding.verdict import Mode
from safety_align.errors import InputError
from safety_align.model import unroll
from safety_align.sizes import check_decoding, parameter_count
from safety_align.text import NO_REQUEST, StreamDecoder, Turn


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a stream hands out after each chunk.

    text: newly released text, which no verdict can retract or condemn any more.
    refusing: the text belongs to a refusal. probability: of the latest check, NaN if there was none.
    result: the whole answer, with the last piece only.
    """

    text: str
    refusing: bool
    probability: float
    result: Result | None = None


COMPILING = 2e12
"""Floating-point operations for which another size of batch is compiled on a CPU: some tens of seconds of either."""

Writer = Callable[[Decoder, dict, PromptBatch], DecodeState]
"""(decoder, parameters, batch) → the state in which every row has stopped."""


def write(decoder: Decoder, params, batch: PromptBatch, prefix: Prefix | None = None) -> DecodeState:
    """The `Writer` of the model's own answers."""
    state = prefill(decoder, params, batch, prefix)
    return decode(decoder, params, batch.replace(soft=None), state)


class Generator:
    """Generates answers with one set of parameters; compiles once for each bucket of sizes.

    Args:
      bundle: the model.
      gate: the safety gate; None is the model's own, "off" decodes as if there were no `[CLS]`.
      max_length: the longest prompt + answer accepted, in tokens.
      mesh: shards parameters by the rules table and rows over `data` and `fsdp`; None for one device. It may span the
        devices of several processes: then all of them make the same calls with the same requests, each feeds its own
        rows, and all get all results.

    `gate` is the gate in force, None if off; `differences` says in what it reads or shows another part of the text than
    the model was trained on, one string for each field. Both are said on stderr.

    Raises InputError for a model without a safety signal, unless `gate` is "off".
    """

    def __init__(
        self,
        bundle: Bundle,
        gate: GateConfig | Literal["off"] | None = None,
        *,
        max_length: int = 4096,
        mesh: jax.sharding.Mesh | None = None,
    ):
        self.gate = _chosen(gate, bundle)
        self.differences = _differences(self.gate, bundle.gate)
        for line in [describe(self.gate), *self.differences]:
            distributed.say(line)
        # Of random schedules: no request can choose it. The same in all processes of the mesh.
        shared = mesh is not None and mesh.is_multi_process
        entropy = secrets.randbits(62)
        self._check_seeds = np.random.default_rng(distributed.from_main(entropy) if shared else entropy)
        self.model_config, self.params = unroll(bundle.model_config, bundle.params, mesh)
        self.tokenizer, self.template = bundle.tokenizer, bundle.template
        self.max_length, self.mesh = max_length, mesh
        self._platform = (mesh.devices.flat[0] if mesh is not None else jax.devices()[0]).platform
        self._write: Writer | None = None
        self._blank: tuple[int, ...] = ()
        if self.gate is not None and self.gate.reread:
            blank = self.template.encode(self.tokenizer, (Turn("user", NO_REQUEST),))
            self._blank = tuple(int(i) for i in blank.ids)
        # By the path of the answers that the model was trained on, or its refusal begins in pieces that it never saw.
        paths = () if self.gate is None else (self.template.encode_response, self.template.encode_continuation)
        self.refusals = tuple(
            tuple(int(i) for i in encode(self.tokenizer, self.gate.refusal_text)) for encode in paths
        ) or ((), ())

    def writing(self, write: Writer) -> "Generator":
        """This generator, but `write` writes its answers, a whole batch after the other, as one who steers decoding would; not its
        streams."""
        other = copy.copy(self)
        other._write = write
        return other

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 64,
        batch_size: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """One result for each request, in order.

        Requests of about one length share `batch_size` rows (rounded up to what the mesh splits evenly): a row whose answer has
        ended takes the next request, a few rows at a time. A few requests are padded with idle rows, so that sizes, and with them
        compilations, are few; but on a CPU, where an idle row of a large model costs as much as any other, not beyond what
        compiling another size would cost. `progress(n)` is called with the number of requests that were finished.

        Raises InputError, naming the request, for an empty or over-long prompt.
        """
        encoded = self.encode(requests, max_new_tokens)
        self._must_agree(encoded, max_new_tokens, batch_size)
        batch_size = sharding.even_rows(batch_size, self.mesh)
        order = sorted(range(len(encoded)), key=lambda i: (_prefill_bucket(encoded[i]), len(encoded[i].prompt.ids)))
        results: list[Result | None] = [None] * len(encoded)
        for group in _groups(order, encoded):
            answer = self._by_batches if self._write else self._refilled
            for found in answer(encoded, group, batch_size, max_new_tokens):
                for i, result in found.items():
                    results[i] = result
                if progress:
                    progress(len(found))
        return results

    def _by_batches(
        self, encoded: list[Encoded], group: list[int], batch_size: int, max_new_tokens: int
    ) -> Iterator[dict[int, Result]]:
        """The results of the requests `group`, a batch after the other."""
        prefix = None if self._write else self._prefix([encoded[i] for i in group], batch_size, max_new_tokens)
        for start in range(0, len(group), batch_size):
            batch = group[start : start + batch_size]
            decoder, arrays = self._prepare([encoded[i] for i in batch], batch_size, max_new_tokens)
            with sharding.on_mesh(self.mesh):
                if self._write:
                    state = self._write(decoder, self.params, arrays)
                else:
                    state = write(decoder, self.params, arrays, prefix)
            host = self._fetch(state)
            yield {i: read_result(host, row, decoder, self.tokenizer) for row, i in enumerate(batch)}

    def _refilled(
        self, encoded: list[Encoded], group: list[int], rows: int, max_new_tokens: int
    ) -> Iterator[dict[int, Result]]:
        """The results of the requests `group` as they come, in `rows` that are refilled (refill.py); or by batches, where there
        is too little to refill them with, or no room for those that are just read."""
        served = None
        if len(group) >= rows + self._share(rows):
            with contextlib.suppress(InputError):
                served = self.rows([encoded[i] for i in group], rows, max_new_tokens)
        if served is None:
            yield from self._by_batches(encoded, group, rows, max_new_tokens)
            return
        served.prefix = self._prefix([encoded[i] for i in group], served.count + served.share, max_new_tokens)
        for report in serve(served, AllThere((i, encoded[i]) for i in group)):
            yield report.ended

    def rows(self, encoded: Sequence[Encoded], rows: int, max_new_tokens: int) -> Rows:
        """`rows` rows (as the mesh splits them) for the requests `encoded`, or others no longer than these, whenever they come; see
        `serving.serve`.

        Raises InputError where there is no room for them and those that are just read.
        """
        decoder, count = self._decoder(encoded, max_new_tokens), sharding.even_rows(rows, self.mesh)
        share = self._share(count)
        self._check_room(count + share, decoder)
        make = functools.partial(self._batch, decoder=decoder, max_new_tokens=max_new_tokens)
        return Rows(decoder, self.params, self.tokenizer, make, count, share, self.mesh)

    def stream(self, request: Request, max_new_tokens: int = 64) -> Iterator[Piece]:
        """The answer to one request, a piece after every chunk of the loop.

        Text is held back until a benign check vouches for it, so nothing shown is ever taken back, or condemned.
        """
        (encoded,) = self.encode([request], max_new_tokens)
        self._must_agree([encoded], max_new_tokens, 1)
        decoder, arrays = self._prepare([encoded], sharding.even_rows(1, self.mesh), max_new_tokens)
        text, released, begun = StreamDecoder(self.tokenizer), 0, False
        with sharding.on_mesh(self.mesh):
            state = prefill(decoder, self.params, arrays)
        arrays = arrays.replace(soft=None)  # they are read: one loop serves all
        while True:
            host = self._fetch(state)
            done = int(host.stop[0]) != Stop.RUNNING
            ids, limit = shown_ids(host, 0, decoder)
            result = read_result(host, 0, decoder, self.tokenizer) if done else None
            fresh = text.feed(ids[released : max(released, limit)]) + (text.flush() if done else "")
            released = max(released, limit)
            probabilities = host.trace.probability[0]
            known = probabilities[~np.isnan(probabilities)]
            refusing = int(host.verdict.mode[0]) == Mode.REFUSING
            latest = float(known[-1]) if known.size else float("nan")
            if refusing and not begun and not int(host.verdict.released[0]):
                fresh = fresh.lstrip()  # as in `Result.response`
            begun |= bool(fresh)
            yield Piece(fresh, refusing, latest, result)
            if done:
                return
            with sharding.on_mesh(self.mesh):
                state = decode(decoder, self.params, arrays, state, np.int32(int(host.turn) + decoder.chunk))

    def _fetch(self, state: DecodeState) -> DecodeState:
        """The host's copy of a state, all rows of it, without the cache."""
        return sharding.fetch(state.replace(cache=()), self.mesh)

    def _must_agree(self, encoded: list[Encoded], max_new_tokens: int, batch_size: int) -> None:
        """Raises InputError if the processes of the mesh were asked different things: they would wait for ever."""
        if self.mesh is None or not self.mesh.is_multi_process:
            return
        shown = [
            (e.prompt.ids.tolist(), e.prefill.tolist(), e.request.seed, e.request.sampling, _soft_bytes(e))
            for e in encoded
        ]
        digest = hashlib.sha256(repr((shown, max_new_tokens, batch_size)).encode()).hexdigest()
        distributed.must_equal({"requests": digest})

    def encode(self, requests: Sequence[Request], max_new_tokens: int) -> list[Encoded]:
        """Ids and spans of all requests; InputError, naming the request, where one is empty or too long."""
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        encoded = []
        for number, request in enumerate(requests):
            try:
                item = encode_request(request, self.tokenizer, self.template, number)
            except InputError as error:
                raise InputError(f"request {number}: {error}") from error
            soft = request.soft
            if soft is not None and soft.vectors.shape[1] != self.model_config.width:
                raise InputError(
                    f"request {number}: soft tokens of {soft.vectors.shape[1]} numbers each; this model's have {self.model_config.width}"
                )
            prompt, prefilled = len(item.prompt.ids), len(item.prefill)
            if (size := prompt + prefilled + max_new_tokens) > self.max_length:
                raise InputError(
                    f"request {number}: prompt ({prompt}) + prefill ({prefilled}) + new tokens ({max_new_tokens}) = "
                    f"{size} is longer than the cache ({self.max_length}); shorten it or raise max_length"
                )
            encoded.append(item)
        return encoded

    def _prepare(self, encoded: list[Encoded], rows: int, max_new_tokens: int) -> tuple[Decoder, PromptBatch]:
        """For one batch of at most `rows` requests."""
        decoder = self._decoder(encoded, max_new_tokens)
        if self._platform == "cpu":
            parameters = parameter_count(self.model_config)
            rows = sharding.even_rows(rows_for(len(encoded), rows, decoder.layout.slots, parameters), self.mesh)
        self._check_room(rows, decoder)
        return decoder, self._batch(encoded, rows, decoder, max_new_tokens)

    def _decoder(self, encoded: list[Encoded], max_new_tokens: int) -> Decoder:
        refusal_room = self.gate.max_refusal_tokens if self.gate is not None and self.gate.refuses else 0
        if refusal_room and self.gate.reread:
            refusal_room += REREAD_CHUNK  # a row may have stopped some steps before it is found to be malicious
        layout = Layout(
            prompt=max(_prompt_bucket(e) for e in encoded),
            prefill=max(_prefill_bucket(e) for e in encoded),
            steps=_round_up(max_new_tokens + refusal_room, chunk_of(self.gate)),
        )
        return Decoder(self.model_config, self.gate, *self.refusals, self.tokenizer.eos_ids, layout, self._blank)

    def _prefix(self, encoded: Sequence[Encoded], rows: int, max_new_tokens: int) -> Prefix | None:
        """What the prompts of all requests of a bucket begin with, read once, where that leaves out half of the slots or more, saves more
        than compiling it and another first pass costs, and where there is room for it beside `rows` rows. Measured on a CPU alone:
        elsewhere prompts are read whole."""
        decoder = self._decoder(encoded, max_new_tokens)
        if self.mesh is not None or self._platform != "cpu" or not can_share(decoder, encoded):
            return None
        count, left_out = shared(encoded, decoder.layout.prompt)
        saved = 2 * parameter_count(self.model_config) * count * (len(encoded) - 1)
        if 2 * left_out < decoder.layout.prompt or saved <= 2 * COMPILING or not fits(decoder, rows, left_out):
            return None
        with contextlib.suppress(InputError):
            self._check_room(rows + 1, decoder)
            return read_once(decoder, self.params, encoded[0].prompt.ids[:count], left_out)
        return None

    def _share(self, rows: int) -> int:
        """How many of `rows` rows are refilled at once."""
        return sharding.even_rows(max(1, rows // SHARES), self.mesh)

    def _check_room(self, rows: int, decoder: Decoder) -> None:
        fix = "a smaller batch, fewer new tokens or shorter prompts"
        check_decoding(self.model_config, rows, decoder.layout.slots, self.mesh, fix)

    def _batch(self, encoded: list[Encoded], rows: int, decoder: Decoder, max_new_tokens: int) -> PromptBatch:
        batch = make_batch(encoded, rows, decoder.layout, max_new_tokens, self.gate, self._check_seeds)
        return sharding.spread_rows(batch, self.mesh)


def rows_for(count: int, rows: int, slots: int, parameters: int) -> int:
    """How many of `rows` rows are decoded on a CPU for `count` requests of so many slots: `rows`, or a half, a quarter, … of them
    that has room, where what the idle ones compute would take longer than to compile another size (`COMPILING`)."""
    fewer = rows
    while count <= -(-fewer // 2) < fewer:
        fewer = -(-fewer // 2)
    return fewer if 2 * parameters * slots * (rows - fewer) > COMPILING else rows


def _chosen(gate: GateConfig | str | None, bundle: Bundle) -> GateConfig | None:
    """The gate in force; None where it was asked to be off."""
    if isinstance(gate, str):
        if gate != "off":
            raise InputError(f'gate {gate!r} is neither a GateConfig nor "off"')
        return None
    if not bundle.model_config.safety_signal or (gate is None and bundle.gate is None):
        lacks = "gate of its own" if bundle.model_config.safety_signal else "safety signal to gate on"
        raise InputError(f'this model has no {lacks}; ask for answers that nothing checks by gate="off"')
    return gate or bundle.gate


def _differences(gate: GateConfig | None, trained: GateConfig | None) -> list[str]:
    if gate is None or trained is None:
        return []
    found = differences(gate, trained)
    return [
        f"gate.{name} is {found[name][0]}, the model was trained with {found[name][1]}"
        for name in WIDTHS
        if name in found
    ]


def _soft_bytes(encoded: Encoded) -> bytes | None:
    return None if encoded.request.soft is None else encoded.request.soft.vectors.tobytes()


def _prompt_bucket(encoded: Encoded) -> int:
    """64, 128, 256, …: a program is compiled for each."""
    return _bucket(len(encoded.prompt.ids), 64, 2)


def _prefill_bucket(encoded: Encoded) -> int:
    """0, 16, 64, 256, …: coarser, as there is one for each bucket of prompts."""
    return _bucket(len(encoded.prefill), 16, 4) if len(encoded.prefill) else 0


def _bucket(size: int, smallest: int, factor: int) -> int:
    """The least of smallest · {1, factor, factor², …} that holds `size`."""
    bucket = smallest
    while bucket < size:
        bucket *= factor
    return bucket


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _groups(order: list[int], encoded: list[Encoded]) -> Iterator[list[int]]:
    """Cuts `order` into groups that share a bucket."""
    for _, group in itertools.groupby(order, lambda i: (_prefill_bucket(encoded[i]), _prompt_bucket(encoded[i]))):
        yield list(group)

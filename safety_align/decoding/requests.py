"""What goes into the decoder and what comes out: plain values, no arrays of the device."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from safety_align.bounds import check_text, integer
from safety_align.decoding.config import GateConfig, Sampling
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.state import NO_SLOT, DecodeState, Layout, PromptBatch, SoftRows, Stop
from safety_align.decoding.verdict import Mode
from safety_align.errors import InputError
from safety_align.text import ChatTemplate, Prompt, Tokenizer, Turn


@dataclasses.dataclass(frozen=True, eq=False)
class SoftTokens:
    """A soft prompt: vectors [N, D] of the embedding space, which no text encodes to. They stand behind the last content of a
    request's turns, and are content themselves. Equal to itself alone.

    Raises InputError for what is no such matrix, or holds a number that is not finite.
    """

    vectors: np.ndarray

    def __post_init__(self):
        vectors = np.asarray(self.vectors, np.float32)
        if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
            raise InputError(f"soft tokens must be finite vectors [N, D], got an array of {vectors.shape}")
        object.__setattr__(self, "vectors", vectors)


@dataclasses.dataclass(frozen=True)
class Request:
    """One answer to generate.

    Attributes:
      turns: the conversation, ending with the user's turn.
      prefill: text that the answer already starts with (an attacker's, usually).
      prefill_ids: the same as token ids, in place of `prefill`.
      seed: of this row's sampling, 0 … 2³² - 1; None: one that follows from the request's place
        in the call, so that equal requests draw different tokens and the same call the same.
      sampling: how to draw tokens.
      soft: vectors behind the text of the turns, as only an attacker with the weights can have them.

    Raises InputError for a seed that is none, and for text that no UTF-8 can hold.
    """

    turns: tuple[Turn, ...]
    prefill: str = ""
    prefill_ids: tuple[int, ...] | None = None
    seed: int | None = None
    sampling: Sampling = Sampling()
    soft: SoftTokens | None = None

    def __post_init__(self):
        if self.prefill and self.prefill_ids is not None:
            raise InputError("a request has both prefill and prefill_ids; give one")
        if self.seed is not None:
            integer("request seed", self.seed, 0, 2**32 - 1)
        for text in (*(turn.text for turn in self.turns), self.prefill):
            check_text("request", text)


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What one check said (`routing.Check` is what one reads).

    step: generated tokens at that time (0: the query, and each window of the prefilled answer); probability: of "malicious";
    start, stop: response tokens read, `start == stop` for the query alone.
    """

    step: int
    probability: float
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Result:
    """One generated answer.

    Attributes:
      response: the answer as the user gets it: kept prefill and generated text, without what the gate took back, and
        without what it condemned or had not yet vouched for.
      token_ids: its ids (a refusal that follows nothing may have white space before it, which `response` has not).
      refused: the gate refused.
      query_score: probability of "malicious" for the query; NaN without a gate.
      max_score: the highest of all checks, and of `reread_score`; NaN without a gate.
      status: "benign", "alert" (pending at the end), "malicious_query", "malicious_response", "ungated".
      transition_step: response token at which the verdict turned; 0 for a malicious query; None if it never did.
      refusal_start: index in `token_ids` at which the refusal starts; None without one.
      stop_reason: "eos", "max_tokens", "refusal_end", "refusal_limit" or "guard" (a refusal that turned malicious).
      checks: every check in order.
      reread_score: the highest threshold at which the second reading refuses (`GateRules.reread`); NaN without one.
    """

    response: str
    token_ids: list[int]
    refused: bool
    query_score: float
    max_score: float
    status: str
    transition_step: int | None
    refusal_start: int | None
    stop_reason: str
    checks: list[CheckResult]
    reread_score: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A request as ids; it has a seed. Where soft tokens stand, from `soft_start` on, the ids mean nothing."""

    request: Request
    prompt: Prompt
    prefill: np.ndarray
    soft_start: int = 0


def encode_request(request: Request, tokenizer: Tokenizer, template: ChatTemplate, number: int = 0) -> Encoded:
    """Ids and spans of a call's request `number`, which gives it a seed if it has none.

    Raises InputError for an empty prompt or ids outside the vocabulary.
    """
    prompt, soft_start = template.encode(tokenizer, request.turns), 0
    if request.soft is not None:
        prompt, soft_start = prompt.insert(np.zeros(len(request.soft.vectors), np.int32))
    if request.prefill_ids is None:
        prefill = np.asarray(template.encode_response(tokenizer, request.prefill) if request.prefill else [], np.int32)
    else:
        prefill = np.asarray(request.prefill_ids)
        if prefill.size and not (
            prefill.dtype.kind in "iu" and 0 <= prefill.min() and prefill.max() < tokenizer.vocab_size
        ):
            raise InputError(f"prefill_ids are not all in the vocabulary (0 … {tokenizer.vocab_size - 1})")
    if request.seed is None:
        digest = hashlib.sha256(f"request {number}".encode()).digest()
        request = dataclasses.replace(request, seed=int.from_bytes(digest[:4]))
    return Encoded(request, prompt, prefill.astype(np.int32), soft_start)


def make_batch(
    encoded: Sequence[Encoded],
    rows: int,
    layout: Layout,
    max_new_tokens: int,
    gate: GateConfig | None,
    check_seeds: np.random.Generator,
) -> PromptBatch:
    """Pads `encoded` into the arrays of `layout`; rows beyond them have limit 0 and never run. `gate` gives the threshold;
    `check_seeds` draws the seeds of random schedules."""
    prompt = np.zeros((rows, layout.prompt), np.int32)
    content = np.zeros((rows, layout.prompt), bool)
    prefill = np.zeros((rows, layout.prefill), np.int32)
    columns = {
        "prompt_length": (np.int32, [len(e.prompt.ids) for e in encoded]),
        "prefill_length": (np.int32, [len(e.prefill) for e in encoded]),
        "limit": (np.int32, [max_new_tokens] * len(encoded)),
        "threshold": (np.float32, [gate.logit_threshold if gate else 0.0] * len(encoded)),
        "temperature": (np.float32, [e.request.sampling.temperature for e in encoded]),
        "top_k": (np.int32, [e.request.sampling.top_k for e in encoded]),
        "top_p": (np.float32, [e.request.sampling.top_p for e in encoded]),
        "seed": (np.uint32, [e.request.seed for e in encoded]),
    }
    for row, item in enumerate(encoded):
        size, filled = len(item.prompt.ids), len(item.prefill)
        prompt[row, layout.prompt - size :] = item.prompt.ids
        content[row, layout.prompt - size :] = item.prompt.content
        prefill[row, :filled] = item.prefill
    full = {}
    for name, (dtype, values) in columns.items():
        full[name] = np.zeros(rows, dtype)
        full[name][: len(values)] = values
    drawn = check_seeds.integers(0, 2**32, rows, np.uint32)
    return PromptBatch(
        prompt=prompt,
        prompt_content=content,
        prefill=prefill,
        check_seed=drawn,
        soft=_soft_rows(encoded, rows, layout),
        **full,
    )


def _soft_rows(encoded: Sequence[Encoded], rows: int, layout: Layout) -> SoftRows | None:
    soft = {row: item for row, item in enumerate(encoded) if item.request.soft is not None}
    if not soft:
        return None
    most, width = np.max([item.request.soft.vectors.shape for item in soft.values()], axis=0)
    vectors = np.zeros((rows, most, width), np.float32)
    slots = np.full((rows, most), NO_SLOT, np.int32)
    for row, item in soft.items():
        count = len(item.request.soft.vectors)
        vectors[row, :count] = item.request.soft.vectors
        slots[row, :count] = layout.prompt - len(item.prompt.ids) + item.soft_start + np.arange(count)
    return SoftRows(vectors, slots)


def kept_ids(state: DecodeState, row: int) -> list[int]:
    """The ids of the response that a row of a host state keeps, in order."""
    rank = state.rank[row]
    slots = np.flatnonzero(rank >= 0)
    return state.tokens[row][slots[np.argsort(rank[slots])]].tolist()


def shown_ids(state: DecodeState, row: int, decoder: Decoder) -> tuple[list[int], int]:
    """The ids of a row of a host state that its reader may ever get, and how many of them no verdict to come can take
    back. Condemned ones ("insert") are left out; of a row that has stopped, what an alert leaves open is withheld.
    """
    gate, verdict = decoder.gate, state.verdict
    ids = kept_ids(state, row)
    if gate is None or not gate.refuses:
        return ids, len(ids)
    mode, safe = int(verdict.mode[row]), int(verdict.safe_length[row])
    done = int(state.stop[row]) != Stop.RUNNING
    if mode == Mode.REFUSING:
        start, released = int(verdict.refusal_start[row]), int(verdict.released[row])
        prefix = len(decoder.refusal if start == 0 else decoder.continued)
        certain = len(ids) if done else max(safe, min(len(ids), start + prefix))
        return ids[:released] + ids[start:], released + certain - start
    if mode == Mode.ALERT and done:  # the cap came before the verdict
        return ids[:safe], safe
    last = gate.parsed_schedule.last
    unwatched = mode == Mode.BENIGN and last is not None and int(state.step[row]) >= last and not gate.reread
    return ids, len(ids) if done or unwatched else safe


def read_result(state: DecodeState, row: int, decoder: Decoder, tokenizer: Tokenizer) -> Result:
    """The result of a row of a host state that has stopped."""
    verdict, gate = state.verdict, decoder.gate
    ids, _ = shown_ids(state, row, decoder)
    stop_reason = Stop.NAMES[int(state.stop[row])]
    if gate is None:
        nan = float("nan")
        return Result(tokenizer.decode(ids), ids, False, nan, nan, "ungated", None, None, stop_reason, [])
    mode, from_query = Mode(int(verdict.mode[row])), bool(verdict.from_query[row])
    if mode in (Mode.QUERY, Mode.REFUSING, Mode.CONFIRMED):
        status = "malicious_query" if from_query else "malicious_response"
    else:
        status = "alert" if mode == Mode.ALERT else "benign"
    transition, released = int(verdict.transition[row]), int(verdict.released[row])
    text = tokenizer.decode(ids)
    trace = state.trace
    checks = [
        CheckResult(
            max(0, int(c) - decoder.column(0)),
            float(trace.probability[row, c]),
            int(trace.start[row, c]),
            int(trace.stop[row, c]),
        )
        for c in np.flatnonzero(~np.isnan(trace.probability[row]))
    ]
    return Result(
        response=text.lstrip() if mode == Mode.REFUSING and not released else text,
        token_ids=ids,
        refused=mode == Mode.REFUSING,
        query_score=checks[0].probability,
        max_score=float(np.fmax(max(check.probability for check in checks), state.reread[row])),
        status=status,
        transition_step=None if transition < 0 else transition,
        refusal_start=released if mode == Mode.REFUSING else None,
        stop_reason=stop_reason,
        checks=checks,
        reread_score=float(state.reread[row]),
    )

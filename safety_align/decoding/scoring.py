"""The head's probabilities without generating: for queries, and for windows of given answers."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
import scipy.special
from jax.sharding import Mesh

from safety_align import sharding
from safety_align.bundle import Bundle
from safety_align.decoding.config import GateConfig
from safety_align.model import SafetyTransformer, TransformerConfig
from safety_align.model.watch import watch
from safety_align.packing import pack_all
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import Check, Kind, rule2_window
from safety_align.text import Turn


@functools.partial(jax.jit, static_argnums=0)
def safety_logits(config: TransformerConfig, params, inputs) -> jax.Array:
    """The logits [B, M] of all checks of rows whose `inputs` are those of a `Batch`; nothing is generated."""
    if not config.signal.in_stream:
        return watch(config, params, *inputs).safety_logits
    model = SafetyTransformer(config)

    def run(model):
        hidden, _ = model.hidden(*inputs)
        return model.read_checks(hidden, inputs[-1])

    return model.apply({"params": params}, method=run)


def score_segments(
    bundle: Bundle, segments: Sequence[Segment], batch_size: int = 32, mesh: Mesh | None = None
) -> np.ndarray:
    """Probability of "malicious" at the last check of each segment [N], of `segment_logits`."""
    return _probability(segment_logits(bundle, segments, batch_size, mesh))


def _probability(logits: np.ndarray) -> np.ndarray:
    """As in the gate: what is not finite counts as malicious."""
    return scipy.special.expit(np.where(np.isfinite(logits), logits, np.inf))


def segment_logits(
    bundle: Bundle, segments: Sequence[Segment], batch_size: int = 32, mesh: Mesh | None = None
) -> np.ndarray:
    """Safety logit at the last check of each segment, [N] float64; arguments as of `check_logits`."""
    return np.array([logits[-1] for logits in check_logits(bundle, segments, batch_size, mesh)], np.float64)


def check_logits(
    bundle: Bundle, segments: Sequence[Segment], batch_size: int = 32, mesh: Mesh | None = None
) -> list[np.ndarray]:
    """Safety logits at all checks of each segment, at least one, [M] float64 each. Short segments share rows; `batch_size` is of
    rows of 64 slots.

    `mesh`: where the parameters are, by the rules table; of several processes all make the same call and get all scores.
    """
    config, params = bundle.model_config, bundle.params
    found: list[np.ndarray] = [np.zeros(0)] * len(segments)
    for slots, rows in _rows(segments):
        count = sharding.even_rows(min(max(1, batch_size * LEAST // slots), len(rows)), mesh)
        for start in range(0, len(rows), count):
            chosen = rows[start : start + count]
            batch = Batch.of([[segments[i] for i in row] for row in chosen], RowShape(slots, CHECKS), count)
            with sharding.on_mesh(mesh):
                logits = sharding.fetch(safety_logits(config, params, sharding.spread_rows(batch.inputs, mesh)), mesh)
            for row, of_row in zip(chosen, logits, strict=False):
                ends = np.cumsum([len(segments[i].checks) for i in row])
                for i, logits_of_one in zip(row, np.split(of_row, ends), strict=False):
                    found[i] = np.asarray(logits_of_one, np.float64)
    return found


LEAST, ROW, CHECKS = 64, 512, 64
"""Slots of a row: a multiple of the first, the second where many short segments share rows; and room for checks."""


def _rows(segments: Sequence[Segment]) -> list[tuple[int, list[list[int]]]]:
    """(slots of a row, which segments stand in each such row), few shapes and little room left over."""
    short = [i for i, segment in enumerate(segments) if segment.length <= ROW]
    groups: dict[int, list[list[int]]] = {}
    if short:
        total = sum(segments[i].length for i in short)
        slots = min(ROW, -(-total // LEAST) * LEAST)
        packed = pack_all([segments[i] for i in short], RowShape(slots, CHECKS))
        groups[slots] = [[short[i] for i in row] for row in packed]
    for i, segment in enumerate(segments):
        if segment.length > ROW:
            groups.setdefault(-(-segment.length // LEAST) * LEAST, []).append([i])
    return sorted(groups.items())


def score_queries(bundle: Bundle, conversations: Sequence[Sequence[Turn]], mesh: Mesh | None = None) -> np.ndarray:
    """The first check of each conversation: probability [N] that its query is malicious."""
    segments = [query_segment(bundle, turns) for turns in conversations]
    return score_segments(bundle, segments, mesh=mesh)


def query_segment(bundle: Bundle, turns: Sequence[Turn]) -> Segment:
    """A conversation whose last check is that of its query."""
    prompt, empty = bundle.template.encode(bundle.tokenizer, turns), np.zeros(0, np.int32)
    check = Check(Kind.QUERY, 0, len(prompt.ids), 0.0)
    return Segment(prompt.ids, prompt.content, empty, empty.astype(bool), (check,))


def score_windows(
    bundle: Bundle,
    windows: Sequence[tuple[Sequence[Turn], str, int]],
    gate: GateConfig,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """What the gate's check of a benign answer would say: for each (turns, answer, tokens), the probability [N] that the
    answer is malicious after `tokens` of it, clipped to what there is. Widths and what is read are the gate's (rule 2).

    Windows of one answer that read nothing else share a row: what a check reads does not depend on what comes later.
    """
    if gate.reads == "all" or gate.windows_include_query:
        return score_segments(bundle, [window_segment(bundle, gate, *window) for window in windows], mesh=mesh)
    answers: dict[tuple, list[int]] = {}
    for i, (turns, answer, _) in enumerate(windows):
        answers.setdefault((tuple(turns), answer), []).append(i)
    parts = [
        (*answer, which[start : start + WINDOWS])
        for answer, which in answers.items()
        for start in range(0, len(which), WINDOWS)
    ]
    segments = [_windows_segment(bundle, gate, *part[:2], [windows[i][2] for i in part[2]]) for part in parts]
    found = np.zeros(len(windows))
    for (*_, which), logits in zip(parts, check_logits(bundle, segments, 32, mesh), strict=True):
        found[which] = _probability(logits[-len(which) :])
    return found


WINDOWS = 32
"""Windows of one answer in a row, at most."""


def _windows_segment(
    bundle: Bundle, gate: GateConfig, turns: Sequence[Turn], answer: str, tokens: Sequence[int]
) -> Segment:
    """A conversation and its answer, whose last checks are those of `gate` after so many `tokens` each."""
    tokenizer, template = bundle.tokenizer, bundle.template
    prompt = template.encode(tokenizer, turns)
    response = template.encode_response(tokenizer, answer)[: max(tokens)]
    size = len(prompt.ids)
    checks = [Check(Kind.QUERY, 0, size, 0.0)] if gate.visible else []
    for count in tokens:
        start, stop = rule2_window(min(count, len(response)), gate.r2)
        checks.append(Check(Kind.WINDOW, size + max(start, 0), size + stop, 0.0))
    return Segment(prompt.ids, prompt.content, response, np.ones(len(response), bool), tuple(checks))


def window_segment(bundle: Bundle, gate: GateConfig, turns: Sequence[Turn], answer: str, tokens: int) -> Segment:
    """A conversation and its answer, cut after `tokens`, whose last check is that of `gate` (which need not be the bundle's)
    of a benign answer so far."""
    tokenizer, template = bundle.tokenizer, bundle.template
    prompt = template.encode(tokenizer, turns)
    response = template.encode_response(tokenizer, answer)[:tokens]
    start, stop = (0, len(response)) if gate.reads == "all" else rule2_window(len(response), gate.r2)
    content = np.arange(len(response)) >= start
    size = len(prompt.ids)
    with_query = gate.reads == "all" or gate.windows_include_query
    check = Check(Kind.WINDOW, 0 if with_query else size, size + stop, 0.0)
    # The answer's tokens feel the signal only where the gate lets them.
    first = (Check(Kind.QUERY, 0, size, 0.0),) if gate.visible else ()
    return Segment(prompt.ids, prompt.content, response, content, (*first, check))

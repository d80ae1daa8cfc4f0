"""Conversations → the rows of a batch: segments side by side, `[CLS]` in place, what each slot is to predict.

`RowShape` is how much a row has room for, `Batch` is rows as the model and the losses read them. What a placement means
for attention is in routing.py.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from safety_align.errors import InputError
from safety_align.routing import CLS_TOKEN, IGNORED, Check, Kind, Routing


@dataclasses.dataclass(frozen=True)
class Segment:
    """One encoded conversation, before placement.

    Attributes:
      prompt: [P] int32 ids, BOS first; may be empty (plain text).
      prompt_content: [P] bool, true for query (content) tokens.
      response: [R] int32 ids, EOS included where the response ends.
      response_content: [R] bool, false for EOS.
      checks: the `[CLS]` copies; at most one of kind QUERY. Empty for a model without the signal.
      train_lm: response tokens count in the LM loss (never true for unsafe answers).
      context: leading response tokens that are context only: never in the LM loss (an unsafe beginning).
      beside: checks take no slots; they stand beside the language model (model/watch.py).
    """

    prompt: np.ndarray
    prompt_content: np.ndarray
    response: np.ndarray
    response_content: np.ndarray
    checks: tuple[Check, ...] = ()
    train_lm: bool = True
    context: int = 0
    beside: bool = False

    @property
    def length(self) -> int:
        """Slots that the segment takes in a row."""
        return len(self.prompt) + len(self.response) + (0 if self.beside else len(self.checks))

    @property
    def pairs(self) -> int:
        """Preference pairs that the segment takes in a row."""
        return 0


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two answers to one conversation, of which `chosen` is preferred: two segments that stay in one row (DPO).

    reference: the reference model's log-probabilities of both responses, summed over their tokens, in nats.
    """

    chosen: Segment
    rejected: Segment
    reference: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        if self.rejected.train_lm:
            raise InputError("the rejected answer of a pair may not enter the LM loss")

    @property
    def length(self) -> int:
        """Slots that the pair takes in a row."""
        return self.chosen.length + self.rejected.length

    @property
    def checks(self) -> tuple[Check, ...]:
        """The `[CLS]` copies of both segments."""
        return self.chosen.checks + self.rejected.checks

    @property
    def pairs(self) -> int:
        """Preference pairs that it takes in a row: itself."""
        return 1


@dataclasses.dataclass(frozen=True)
class RowShape:
    """What a row has room for: slots (S), copies of `[CLS]` (M), preference pairs (P)."""

    slots: int
    checks: int = 0
    pairs: int = 0


@flax.struct.dataclass
class Batch:
    """Placed rows, numpy or jax arrays. M = 0 without `[CLS]`, P = 0 without preference pairs.

    Attributes:
      tokens: [B, S] int32, `CLS_TOKEN` where a copy stands, 0 in padding.
      positions: [B, S] int32, position ids.
      segments: [B, S] int32, 1, 2, … within a row; 0 is padding.
      content: [B, S] bool, what a `[CLS]` row may read.
      targets: [B, S] int32, the next *ordinary* token.
      loss_weights: [B, S] float32, 1 where the target is a trained response token.
      cls_index: [B, M] int32, slot of each copy, or of a copy beside the language model the first of its segment;
        `IGNORED` if unused.
      cls_range: [B, M, 2] int32, slots `[lo, hi)` that it reads content in.
      cls_labels, cls_weights: [B, M] float32.
      cls_kinds: [B, M] int32, see `Kind`.
      pair_sides: [B, S] int32, 1 + 2p where the next token is one of pair p's chosen response, 2 + 2p of its rejected
        one, else 0.
      pair_reference: [B, P, 2] float32, nats; chosen, rejected.
      pair_weights: [B, P] float32, 1 where there is a pair.
      states: [B, S, n, D], what a probe reads of the tokens, where that is kept (training/kept.py); None: to be computed.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    content: jax.Array
    targets: jax.Array
    loss_weights: jax.Array
    cls_index: jax.Array
    cls_range: jax.Array
    cls_labels: jax.Array
    cls_weights: jax.Array
    cls_kinds: jax.Array
    pair_sides: jax.Array
    pair_reference: jax.Array
    pair_weights: jax.Array
    states: jax.Array | None = None

    @classmethod
    def of(cls, rows: Sequence[Sequence[Segment | Pair]], shape: RowShape, count: int | None = None) -> "Batch":
        """What is in each row, laid out, in numpy arrays; empty rows behind them up to `count` (B), if given.

        Raises InputError if a row's segments do not fit.
        """
        batch = cls(
            **{
                name: np.full((len(rows) if count is None else count, *tail), fill, dtype)
                for name, (tail, dtype, fill) in _layout(shape).items()
            }
        )
        for index, items in enumerate(rows):
            _place(jax.tree.map(lambda array, index=index: array[index], batch), items, shape)
        return batch

    @classmethod
    def abstract(cls, shape: RowShape, count: int, sharding: jax.sharding.Sharding | None = None) -> "Batch":
        """The shapes and dtypes of `count` rows, for lowering."""
        return cls(
            **{
                name: jax.ShapeDtypeStruct((count, *tail), dtype, sharding=sharding)
                for name, (tail, dtype, _) in _layout(shape).items()
            }
        )

    def take(self, rows: Sequence[int]) -> "Batch":
        """Some of its rows."""
        return jax.tree.map(lambda array: array[rows], self)

    @property
    def inputs(self) -> tuple[jax.Array, jax.Array, Routing]:
        """What the model reads: tokens, positions, routing."""
        return (
            self.tokens,
            self.positions,
            Routing(self.segments, self.content, self.cls_index, self.cls_range),
        )


def _layout(shape: RowShape) -> dict[str, tuple[tuple[int, ...], type, int]]:
    """Of each field of a `Batch`: the shape of a row, dtype, and what stands where nothing is placed."""
    slots, checks, pairs = (shape.slots,), (shape.checks,), (shape.pairs,)
    return {
        "tokens": (slots, np.int32, 0),
        "positions": (slots, np.int32, 0),
        "segments": (slots, np.int32, 0),
        "content": (slots, np.bool_, 0),
        "targets": (slots, np.int32, 0),
        "loss_weights": (slots, np.float32, 0),
        "cls_index": (checks, np.int32, IGNORED),
        "cls_range": ((*checks, 2), np.int32, 0),
        "cls_labels": (checks, np.float32, 0),
        "cls_weights": (checks, np.float32, 0),
        "cls_kinds": (checks, np.int32, 0),
        "pair_sides": (slots, np.int32, 0),
        "pair_reference": ((*pairs, 2), np.float32, 0),
        "pair_weights": (pairs, np.float32, 0),
    }


def _place(row: Batch, items: Sequence[Segment | Pair], shape: RowShape) -> None:
    """Writes segments and pairs, in order, into `row`: views [S], … of the arrays of an empty row."""
    used, copies = sum(s.length for s in items), sum(len(s.checks) for s in items)
    if used > shape.slots or copies > shape.checks:
        raise InputError(
            f"segments take {used} slots and {copies} checks; the row has {shape.slots} and {shape.checks}"
        )
    if (found := sum(s.pairs for s in items)) > shape.pairs:
        raise InputError(
            f"segments hold {found} preference pairs; the row has room for {shape.pairs} (data.pairs_per_row)"
        )
    laid: list[tuple[Segment, int]] = []
    pair = 0
    for item in items:
        if isinstance(item, Pair):
            laid += [(item.chosen, 1 + 2 * pair), (item.rejected, 2 + 2 * pair)]
            row.pair_reference[pair], row.pair_weights[pair] = item.reference, 1.0
            pair += 1
        else:
            laid.append((item, 0))
    slot, copy = 0, 0
    for number, (segment, side) in enumerate(laid, 1):
        slot, copy = _place_segment(row, segment, number, side, slot, copy)


def _place_segment(row: Batch, segment: Segment, number: int, side: int, slot: int, copy: int) -> tuple[int, int]:
    """Writes one segment into `row` from `slot` on; returns the next free slot and check."""
    ids = np.concatenate([segment.prompt, segment.response]).astype(np.int32)
    prompt_length, total = len(segment.prompt), len(ids)
    visible = [c for c in segment.checks if c.kind == Kind.QUERY and not (c.hidden or segment.beside)]
    hidden = [c for c in segment.checks if c not in visible]
    if len(visible) > 1:
        raise InputError("a segment has one visible [CLS] at most")
    # Slot of each ordinary token: the visible [CLS] stands between prompt and response.
    where = slot + np.arange(total + 1)
    where[prompt_length:] += len(visible)
    row.tokens[where[:total]] = ids
    row.positions[where[:total]] = 1 + np.arange(total)
    row.content[where[:total]] = np.concatenate([segment.prompt_content, segment.response_content])
    if (segment.train_lm or side) and total > 1:
        first = max(prompt_length, 1)  # BOS of plain text is never predicted
        row.targets[where[: total - 1]] = ids[1:]
        if segment.train_lm:
            row.loss_weights[where[first + segment.context - 1 : total - 1]] = 1.0
        if side:
            row.pair_sides[where[first - 1 : total - 1]] = side
    slots = [slot + prompt_length] * len(visible) + [int(where[total]) + i for i in range(len(hidden))]
    if segment.beside:
        slots = [slot] * len(hidden)
    for check, index in zip([*visible, *hidden], slots, strict=True):
        if not segment.beside:
            row.tokens[index] = CLS_TOKEN
        row.cls_index[copy] = index
        # A range that ends with the prompt must not reach over the visible [CLS]; content excludes it anyway.
        row.cls_range[copy] = where[check.start], where[check.stop]
        row.cls_labels[copy] = check.label
        row.cls_weights[copy] = check.weight
        row.cls_kinds[copy] = check.kind
        copy += 1
    end = slot + segment.length
    row.segments[slot:end] = number
    return end, copy

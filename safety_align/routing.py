"""Who may attend to whom: what each `[CLS]` of a row reads, and the masks that follow (docs/method.md section 3).

A row of a batch holds packed segments, each `prompt, [CLS], response, [CLS], …, [CLS]`. Attention is plain causal
attention within a segment; the routing is in the *placement* [ours], see placement.py. The first `[CLS]` stands after
the last token that must not see it, and the response sees it; further copies stand behind the response, so that no
token sees them. For a segment with prompt `b q q t` (BOS, query, query, template) and response `r r e` (e: EOS):

                  b q q t C r r e W          b q q t C r r e W    content: · 1 1 · · 1 1 · ·
    causal  b   [ 1 . . . . . . . . ]
            q   [ 1 1 . . . . . . . ]        the rows of [CLS] are special: their content range and themselves
            q   [ 1 1 1 . . . . . . ]        (Rule 4: auxiliary tokens are never content)
            t   [ 1 1 1 1 . . . . . ]
            C   ----------------------->   [ . 1 1 . 1 . . . . ]    kind QUERY,  range = the prompt
            r   [ 1 1 1 1 1 1 . . . ]
            r   [ 1 1 1 1 1 1 1 . . ]
            e   [ 1 1 1 1 1 1 1 1 . ]
            W   ----------------------->   [ . . . . . 1 1 . 1 ]    kind WINDOW, range = r r

`[CLS]` has position id 0, the segment's first token position id 1, and so on; physical order carries the causality.
"""

import dataclasses
import enum
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from safety_align.bounds import boolean, integer
from safety_align.errors import InputError

CLS_TOKEN = -1
"""What stands for `[CLS]` in token arrays. Not a vocabulary entry: no text can encode to it [ours]."""

IGNORED = np.iinfo(np.int32).max
"""`cls_index` of an unused check slot: out of bounds, so gathers fill and scatters drop."""


class Kind(enum.IntEnum):
    """What a `[CLS]` copy reads."""

    QUERY = 0  # the query: the first check, the only copy that response tokens see
    ALERTED = 1  # rule 1: the query and the first r1 response tokens
    WINDOW = 2  # rules 2 and 3: a window of the response
    TEXT = 3  # pretraining: all content


@dataclasses.dataclass(frozen=True)
class Check:
    """One `[CLS]` copy of a segment: reads the content among tokens `[start, stop)` of `prompt + response`.

    `label` is 1 for malicious, 0 for benign; `weight` 0 leaves the copy in place but out of the loss. `hidden`: of the
    query's copy, that it stands behind the response, which does not see it; other kinds always do.
    """

    kind: Kind
    start: int
    stop: int
    label: float
    weight: float = 1.0
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class RoutingConfig:
    """What training shows (docs/method.md section 5).

    r1, r2, r3: widths of the windows of rules 1-3, in tokens; windows: how many copies train on them; visible: the
    response attends to the query's `[CLS]` (False: it feels nothing of the signal, as under a gate with `visible=False`);
    beside: checks take no slots of a row, they stand beside the language model (model/watch.py) and are seen by nothing.
    """

    r1: int = 10
    r2: int = 10
    r3: int = 10
    windows: int = 2
    visible: bool = True
    beside: bool = False

    def __post_init__(self):
        for name in ("r1", "r2", "r3"):
            integer(f"routing.{name}", getattr(self, name), 1, 10**6)
        integer("routing.windows", self.windows, 0, 10**6)
        boolean("routing.visible", self.visible)
        boolean("routing.beside", self.beside)
        if self.beside and self.visible:
            raise InputError(
                "routing.beside: a check beside the language model is seen by nothing; set routing.visible=False"
            )


def rule1_window(r1: int) -> tuple[int, int]:
    """Rule 1, response tokens `[lo, hi)` read beside the query after a malicious first check."""
    return 0, r1


def rule2_window(count, r2: int):
    """Rule 2, response tokens `[lo, hi)` read while benign, `count` tokens in: the latest `r2`."""
    return count - r2, count


def rule3_window(transition, r2: int, r3: int):
    """Rule 3, response tokens `[lo, hi)` read after the verdict turned at token `transition` (S_t)."""
    return transition - r2, transition + r3 + 1


def sample_checks(
    rng: np.random.Generator,
    prompt_length: int,
    response_length: int,
    query_label: float | None,
    response_label: float | None,
    config: RoutingConfig,
) -> tuple[Check, ...]:
    """Draws the `[CLS]` copies of one alignment example: train on what inference shows [ours].

    Args:
      rng: source of randomness.
      prompt_length: P.
      response_length: content tokens of the response (without EOS); 0 for a query alone.
      query_label: 1 malicious, 0 benign, None unknown (the copy stays for the response to see, at weight 0).
      response_label: the label of *this response*; None draws no windows.
      config: window widths, the number of copies, and whether the response sees the query's.

    Returns:
      The QUERY copy (none where it has no label and nothing sees it), then `config.windows` copies that rules 1-3 can
      produce at a random point of the response: one in eight by rule 1 (the turn's label), otherwise rule 2 or 3 (the
      response's label).
    """
    known = query_label is not None
    label, weight, hidden = query_label if known else 0.0, 1.0 if known else 0.0, not config.visible
    checks = [Check(Kind.QUERY, 0, prompt_length, label, weight, hidden)] if known or config.visible else []
    if response_label is None or response_length < 1:
        return tuple(checks)
    for _ in range(config.windows):
        count = int(rng.integers(1, response_length + 1))  # tokens generated so far
        draw = rng.random()
        if draw < 0.125 and known:
            _, hi = rule1_window(config.r1)
            checks.append(Check(Kind.ALERTED, 0, prompt_length + min(hi, count), query_label))
            continue
        # A verdict turns at a check; the first that rule 3 applies to has one token more to read, at least.
        if draw < 0.75 or count < 2:
            lo, hi = rule2_window(count, config.r2)
        else:
            turned = int(rng.integers(max(0, count - config.r3 - 1), count - 1))
            lo, hi = rule3_window(turned, config.r2, config.r3)
        lo, hi = max(lo, 0), min(hi, count)
        checks.append(Check(Kind.WINDOW, prompt_length + lo, prompt_length + hi, response_label))
    return tuple(checks)


@flax.struct.dataclass
class Routing:
    """The routing of a batch of placed rows, as the model reads it. Shapes as in `placement.Batch`.

    A `[CLS]` whose own slot has segment -n instead of n reads segment n, but no token sees it.
    `cls_index` and `cls_range` have M = 0 for a model or batch without `[CLS]`. `cls_also` [B, M, 2], if given, is a
    second range of slots that each copy reads content in: the query beside a window.
    """

    segments: jax.Array
    content: jax.Array
    cls_index: jax.Array
    cls_range: jax.Array
    cls_also: jax.Array | None = None


def causal_mask(segments: jax.Array) -> jax.Array:
    """[B, S, S] bool: what ordinary tokens may attend to, earlier slots of their own segment."""
    slots = jnp.arange(segments.shape[-1])
    same = segments[:, :, None] == segments[:, None, :]
    return same & (slots[:, None] >= slots[None, :])


def in_sliding_window(query: jax.Array, key: jax.Array, width: int) -> jax.Array:
    """Whether the key's position id is within a sliding window, `width` tokens wide, of the query's. `[CLS]`, position id 0,
    always is: the signal must reach the end of a long answer [ours]."""
    return (query - key < width) | (key == 0)


def check_reads(routing: Routing) -> jax.Array:
    """[B, M, S] bool: the content that each `[CLS]` copy reads. Unused copies: nothing."""
    slots = jnp.arange(routing.segments.shape[-1])
    own = jnp.take_along_axis(routing.segments, jnp.minimum(routing.cls_index, slots.size - 1), axis=1)
    inside = (slots >= routing.cls_range[..., :1]) & (slots < routing.cls_range[..., 1:])
    if routing.cls_also is not None:
        inside |= (slots >= routing.cls_also[..., :1]) & (slots < routing.cls_also[..., 1:])
    same = jnp.abs(own)[:, :, None] == routing.segments[:, None, :]
    return inside & routing.content[:, None, :] & same & (routing.cls_index != IGNORED)[:, :, None]


def cls_mask(routing: Routing) -> jax.Array:
    """[B, M, S] bool: what each `[CLS]` copy may attend to: what it reads, and itself. Unused copies: nothing."""
    slots, index = jnp.arange(routing.segments.shape[-1]), routing.cls_index[:, :, None]
    return check_reads(routing) | ((slots == index) & (index != IGNORED))


def reference_mask(
    tokens: np.ndarray,
    positions: np.ndarray,
    segments: np.ndarray,
    content: np.ndarray,
    cls_index: np.ndarray,
    cls_range: np.ndarray,
    cls_kinds: np.ndarray,
    prompt_lengths: Sequence[int],
    sliding_window: int | None = None,
) -> np.ndarray:
    """The oracle: one row's mask [S, S] written from the rules, by position ids and roles, blind to physical order.

    `prompt_lengths[n]` is the prompt length of segment n + 1: a token is a response token if its position id exceeds
    it. `sliding_window` binds ordinary tokens only. Slow (loops over pairs); for tests.
    """
    size = len(tokens)
    kind_of = {int(i): Kind(int(k)) for i, k in zip(cls_index, cls_kinds, strict=True) if i != IGNORED}
    range_of = {int(i): r for i, r in zip(cls_index, cls_range, strict=True)}
    mask = np.zeros((size, size), bool)
    for q in range(size):
        for k in range(size):
            if segments[q] == 0 or segments[q] != segments[k]:
                continue
            if tokens[q] == CLS_TOKEN:
                lo, hi = range_of[q]
                mask[q, k] = q == k or (content[k] and tokens[k] != CLS_TOKEN and lo <= k < hi)
            elif tokens[k] == CLS_TOKEN:
                is_response = positions[q] > prompt_lengths[segments[q] - 1]
                mask[q, k] = is_response and kind_of[k] == Kind.QUERY
            else:
                near = sliding_window is None or positions[q] - positions[k] < sliding_window
                mask[q, k] = positions[k] <= positions[q] and near
    return mask

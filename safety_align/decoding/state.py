"""What the decoding loop carries, and where things stand in the cache.

Slots of the cache, the same for every row of a batch, so that each step writes one slot (prompts end, and prefilled
answers begin, in the same slot for all rows):

    [ prompt, P slots | CLS | aside | prefilled answer, F slots | generated tokens, N slots … ]

The slots of generated tokens are a ring: a row that another request takes over while the loop runs (refill.py) begins where the
others stand, and goes on from the last slot to the first. No row outlives a round. Where a token stands in its response
is its rank, never its slot.

`CLS` holds the signal that response tokens see; a re-check replaces it. `aside` is where the checks of a refusing row
write: no token sees them, the refusal keeps attending to the verdict that started it [ours].
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from safety_align.decoding.verdict import Verdict
from safety_align.model import Cache


@dataclasses.dataclass(frozen=True)
class Layout:
    """Static sizes of one compiled decoder.

    Attributes:
      prompt: P, slots for the prompt.
      prefill: F, slots for a prefilled answer; 0 if no row has one.
      steps: slots for generated tokens: the cap on new tokens, and what a refusal may add.
    """

    prompt: int
    prefill: int
    steps: int

    @property
    def cls(self) -> int:
        """Slot of the signal."""
        return self.prompt

    @property
    def aside(self) -> int:
        """Slot of a refusing row's checks."""
        return self.prompt + 1

    @property
    def response(self) -> int:
        """First slot of the response: the prefilled answer, then the generated tokens."""
        return self.prompt + 2

    @property
    def generated(self) -> int:
        """First slot of the generated tokens."""
        return self.response + self.prefill

    @property
    def slots(self) -> int:
        """T, all slots."""
        return self.generated + self.steps


class Stop:
    """Why a row stopped."""

    RUNNING, EOS, MAX_TOKENS, REFUSAL_END, REFUSAL_LIMIT, RELAPSE = range(6)
    NAMES = ("running", "eos", "max_tokens", "refusal_end", "refusal_limit", "guard")
    """As results name them; a refusal that turned malicious (a relapse) is "guard"."""


@flax.struct.dataclass
class SoftRows:
    """Vectors that stand in place of tokens: vectors [B, N, D] float32; slots [B, N] int32, the prompt's slots in which they stand,
    `NO_SLOT` for those that only fill the batch."""

    vectors: jax.Array
    slots: jax.Array


NO_SLOT = 2**31 - 1
"""Behind every slot that there is."""


@flax.struct.dataclass
class PromptBatch:
    """The encoded requests of one batch. Prompts are padded on the left.

    prompt [B, P] int32, prompt_content [B, P] bool (what came from outside, Rule 4), prompt_length [B] int32;
    prefill [B, F] int32, padded on the right, prefill_length [B] int32; limit [B] int32 cap on new tokens, 0 for a row that only fills the
    batch; threshold [B] float32, the safety logit from which a check is malicious; temperature [B] float32, top_k [B] int32,
    top_p [B] float32, seed [B] uint32; check_seed [B] uint32, of a random schedule: the decoder's own, which no request can
    choose or guess; soft: vectors among the prompts' tokens, None (no arrays at all) where no row has any.
    """

    prompt: jax.Array
    prompt_content: jax.Array
    prompt_length: jax.Array
    prefill: jax.Array
    prefill_length: jax.Array
    limit: jax.Array
    threshold: jax.Array
    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    seed: jax.Array
    check_seed: jax.Array
    soft: SoftRows | None = None


@flax.struct.dataclass
class Trace:
    """Every check. Column 0 is the query, columns 1 … N + 1 are the windows of the prefilled answer (the last of them
    reads its end), column N + 1 + s is the check after generated token s; N is `Decoder.inner_windows`.

    probability [B, C] float32, NaN where there was no check; start, stop [B, C] int32, the response tokens read.
    """

    probability: jax.Array
    start: jax.Array
    stop: jax.Array

    @classmethod
    def empty(cls, rows: int, columns: int) -> "Trace":
        """No checks yet."""
        shape = (rows, columns)
        return cls(jnp.full(shape, jnp.nan), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))


@flax.struct.dataclass
class DecodeState:
    """Carried by the loop; donated.

    Attributes:
      turn: scalar int32, steps of the loop so far; the next one writes slot `turn` of the ring.
      begun: [B] int32, the turn at which the row's first generated token was pending.
      token: [B] int32, drawn but not yet processed.
      length: [B] int32, response tokens kept so far (prefilled ones included), without `token`.
      tokens: [B, F + N] int32, what each response slot holds.
      rank: [B, F + N] int32, the index of each response slot in the kept response; -1 if empty or dropped.
      limit: [B] int32, `step` at which the row stops, at most N.
      stop: [B] int32, a `Stop` code; RUNNING while it generates.
      verdict: the automaton.
      trace: every check.
      reread: [B] float32, the highest threshold at which the second reading would have refused (reread.py), NaN before any.
      cache: keys and values of the T slots.
    """

    turn: jax.Array
    begun: jax.Array
    token: jax.Array
    length: jax.Array
    tokens: jax.Array
    rank: jax.Array
    limit: jax.Array
    stop: jax.Array
    verdict: Verdict
    trace: Trace
    reread: jax.Array
    cache: Cache

    @property
    def step(self) -> jax.Array:
        """[B] int32: generated tokens of each row that were processed so far; of a row that has stopped it goes on counting."""
        return self.turn - self.begun

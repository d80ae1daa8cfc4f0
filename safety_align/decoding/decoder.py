"""What a compiled decoder is specialised to, and how it reaches the model: `[CLS]` rows, the cache, the trace."""

import dataclasses

import jax
import jax.numpy as jnp

from safety_align.decoding.config import GateConfig, GateRules
from safety_align.decoding.state import DecodeState, Layout, PromptBatch, Trace
from safety_align.decoding.verdict import Mode, Verdict
from safety_align.decoding.windows import Window, prefill_stride
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig, Write

CHUNK = 8
"""Steps of the inner scan: how often the loop looks how many rows still run."""

REREAD_CHUNK = 16
"""The same where answers are read again (reread.py), after each of these: more windows at once cost hardly more."""


@dataclasses.dataclass(frozen=True)
class Decoder:
    """What a compiled decoder is specialised to; hashable.

    Attributes:
      model: the transformer, layers unrolled (`scan_layers=False`).
      gate: the rules of the safety gate, or None: then `[CLS]` does not exist for any token. Of a whole `GateConfig` the
        rules are kept; its threshold goes with each `PromptBatch`.
      refusal: ids that a refusal is forced to start with where it is the whole answer.
      continued: the same behind an answer that has text already.
      eos: ids that end an answer.
      layout: sizes; `steps` is a multiple of `chunk`.
      blank: ids of the prompt that `gate.reread` reads the answer behind.
    """

    model: TransformerConfig
    gate: GateRules | None
    refusal: tuple[int, ...]
    continued: tuple[int, ...]
    eos: tuple[int, ...]
    layout: Layout
    blank: tuple[int, ...] = ()

    def __post_init__(self):
        if isinstance(self.gate, GateConfig):
            object.__setattr__(self, "gate", self.gate.rules)
        if self.model.scan_layers:
            raise InputError("the decoder needs unrolled layers: scan_layers=False and unroll(config, params)")
        if self.gate is not None and not self.model.safety_signal:
            raise InputError(
                "this model has no safety signal to gate on; decode without, or use a model trained with [CLS]"
            )
        if self.beside and self.gate.visible:
            raise InputError(
                f"a signal of kind {self.model.signal.kind!r} is one that the answer cannot attend to; set gate.visible to False"
            )
        longest = max(len(self.refusal), len(self.continued))
        if self.gate is not None and self.gate.max_refusal_tokens < longest:
            raise InputError(
                f"gate.max_refusal_tokens ({self.gate.max_refusal_tokens}) does not hold the refusal prefix of "
                f"{longest} tokens; raise it"
            )
        if self.gate is not None and self.gate.reread and not self.blank:
            raise InputError("gate.reread needs the ids of a prompt without a request: Decoder(…, blank=…)")
        if self.layout.steps % self.chunk:
            raise InputError(f"layout.steps ({self.layout.steps}) must be a multiple of {self.chunk}")
        if self.longest < 1:
            raise InputError(
                f"layout.steps ({self.layout.steps}) must exceed gate.max_refusal_tokens + {self.chunk} under gate.reread"
            )

    @property
    def chunk(self) -> int:
        """Steps of the inner scan."""
        return chunk_of(self.gate)

    @property
    def longest(self) -> int:
        """The most tokens that a row may generate before a refusal: one that is found to be malicious after it has stopped still needs
        room for its refusal."""
        late = self.gate is not None and self.gate.reread and self.gate.refuses
        return self.layout.steps - (self.gate.max_refusal_tokens + self.chunk if late else 0)

    @property
    def checks_generated(self) -> bool:
        """What is generated is checked at all."""
        return self.gate is not None and self.gate.parsed_schedule.last != 0

    @property
    def reads_prefill(self) -> bool:
        """Prefilled answers are checked: always, the schedule is that of generated text."""
        return self.gate is not None and self.layout.prefill > 0

    @property
    def beside(self) -> bool:
        """Checks stand beside the language model, in no slot of the prompt's row (model/watch.py)."""
        return self.gate is not None and not self.model.signal.in_stream

    @property
    def probes(self) -> bool:
        """What checks is no row of its own, but what a probe kept of each token."""
        return self.gate is not None and self.model.signal.kind == "probe"

    @property
    def inner_windows(self) -> int:
        """N, windows of a prefilled answer before the one that reads its end."""
        if not self.reads_prefill:
            return 0
        return (self.layout.prefill - 1) // prefill_stride(self.gate)

    def column(self, step):
        """The column of `Trace` in which the check after generated token `step` stands; 0: the prefilled answer's end."""
        return self.inner_windows + 1 + step

    def prefix_length(self, verdict: Verdict) -> jax.Array:
        """[B]: tokens of the forced refusal prefix."""
        return jnp.where(verdict.refusal_start == 0, len(self.refusal), len(self.continued))


def chunk_of(gate: GateRules | None) -> int:
    """`Decoder.chunk` under a gate."""
    return CHUNK if gate is None or not gate.reread else REREAD_CHUNK


def window_mask(batch: PromptBatch, state: DecodeState, window: Window) -> jax.Array:
    """[B, T]: the slots of the content that a check reads."""
    query = batch.prompt_content & window.query[:, None]
    inside = (state.rank >= window.start[:, None]) & (state.rank < window.stop[:, None]) & (state.rank >= 0)
    return jnp.concatenate([query, jnp.zeros((len(query), 2), bool), inside], axis=1)


def cls_row(decoder: Decoder, batch: PromptBatch, state: DecodeState, window: Window, due: jax.Array):
    """Mask [B, T] of the `[CLS]` row, and where it writes: the signal; in a refusing row, or one without a check (its
    keys and values are read by nothing), the slot aside."""
    refusing, layout = state.verdict.mode == Mode.REFUSING, decoder.layout
    mask = window_mask(batch, state, window)
    mask = mask.at[:, layout.cls].set(~refusing).at[:, layout.aside].set(refusing)
    return mask, Write(0, jnp.where(due & ~refusing, layout.cls, layout.aside))


def record(trace: Trace, column, due, logit, start, stop) -> Trace:
    """Notes a check of the rows `due` in `column`, a scalar or [B]; a logit that is not finite is noted as probability 1."""
    here = (jnp.arange(trace.probability.shape[1]) == jnp.reshape(column, (-1, 1))) & due[:, None]
    new = Trace(probability(logit), start, stop)
    return jax.tree.map(lambda old, value: jnp.where(here, value[:, None], old), trace, new)


def probability(logit: jax.Array) -> jax.Array:
    """Probability of "malicious" of safety logits [...]; 1 where a logit is not finite."""
    return jnp.where(jnp.isfinite(logit), jax.nn.sigmoid(logit), 1.0)


def apply(decoder: Decoder, params, method: str, *arguments):
    """The `method` of `SafetyTransformer` with the decoder's model and `params`."""
    return SafetyTransformer(decoder.model).apply({"params": params}, *arguments, method=method)
